"""More shards than files may be open: everything works, with what is to spare."""

from __future__ import annotations

import json
import shutil

from tests.support.process.command import run_cli
from tests.support.scene import INDEX, Scene, read_tensors, write_shard

SHARDS = 22
"""Of each side: one for each tensor."""
LIMIT = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (48, 48))"


def test_two_models_of_many_shards_are_restored_and_verified_with_few_files(scene: Scene) -> None:
    for folder in (scene.base, scene.target):
        tensors = read_tensors(folder)
        (folder / INDEX).unlink()
        for path in folder.glob("*.safetensors"):
            path.unlink()
        names = [f"model-{n:05}-of-{len(tensors):05}.safetensors" for n in range(len(tensors))]
        for file, (name, tensor) in zip(names, tensors.items(), strict=True):
            write_shard(folder / file, {name: tensor})
        weight_map = dict(zip(tensors, names, strict=True))
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    scene.run()
    expected = read_tensors(scene.output)
    shutil.rmtree(scene.output)
    scene.run(prelude=LIMIT)
    assert read_tensors(scene.output) == expected
    done = run_cli("verify", "out", cwd=scene.root, prelude=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
