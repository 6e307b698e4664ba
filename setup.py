"""Bundles the library that draws reports; everything else is in ``pyproject.toml``.

The wheel ships Vega and Vega-Lite as one script, ``shardrestore/report/page/vega.min.js``.
vl-convert-python, pinned among the build requirements, holds both and minifies them
in a second; it is not needed afterwards.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SCRIPT = ROOT / "shardrestore" / "report" / "page" / "vega.min.js"
LICENCES = SCRIPT.with_name("licences.txt")


class BuildPy(build_py):
    """Writes the script before the packages' files are gathered."""

    def run(self) -> None:
        """Build; in editable installs the script lies in the source tree."""
        write_script()
        super().run()


def write_script() -> None:
    """Write the script, unless it is there already, of the pinned version."""
    banner = f"/*! Bundled by {find_requirement()}: "
    if SCRIPT.exists() and SCRIPT.read_text(encoding="utf-8").startswith(banner):
        return
    import vl_convert

    code = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if re.search("</script|<!--", code, re.IGNORECASE):
        raise SystemExit(f"{SCRIPT.name}: holds text that would end an HTML script element")
    version = vl_convert.get_vega_version()
    notice = f"{banner}Vega {version}, Vega-Lite and their parts.\n\n{LICENCES.read_text()}*/\n"
    # In a function its hundreds of short names are its own.
    SCRIPT.write_text(f"{notice}(()=>{{{code}}})();\n", encoding="utf-8")


def find_requirement() -> str:
    """Return the pinned bundler, as ``vl-convert-python==1.2.3``."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (pin,) = (r for r in document["build-system"]["requires"] if r.startswith("vl-convert-python"))
    return str(pin)


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildPy})
