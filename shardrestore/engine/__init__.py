"""One segment at a time: read, scored and cut, on a processor core or a GPU."""
