"""Model cards: read back by the Hub's own client, harmless whatever the names, never large."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

import shardrestore
from shardrestore.checkpoint.selection import SideFiles
from shardrestore.figures.model import (
    ChangeFigures,
    Choice,
    CutFigures,
    KeyRange,
    ModelFigures,
    ScoreFigures,
    TensorResult,
    TieFigures,
)
from shardrestore.figures.side_files import describe_side_files
from shardrestore.notes import Note
from shardrestore.report.card import encode_card
from shardrestore.selection.histogram import ScoreStatistics
from tests.support.checkpoints import store, write_checkpoint
from tests.support.examples import examples
from tests.support.scene import Scene

COMMITS = {"base": "b" * 40, "target": "7" * 40}
STATISTICS = ScoreStatistics(
    **{field.name: 0.0 for field in dataclasses.fields(ScoreStatistics)}  # type: ignore[arg-type]
)
OPTIONS: dict[str, Any] = {
    "percent": 10.0,
    "region": "transformer",
    "include": [],
    "exclude": [],
    "rename": [],
    "strategy": "top",
    "seed": None,
    "dtype": "auto",
    "approximate": False,
    "allow_nonfinite": False,
}
HOSTILE = st.text(
    st.sampled_from("`*_|<>[]()!#-&\\\"'~$;:@/ \n\r\t\x00\x1b\u2028\ud800\udc80aé模")
    | st.characters(),
    min_size=1,
    max_size=40,
)


def local(path: str) -> dict[str, Any]:
    return {"path": path, "shards": []}


def on_hub(repository: str, role: str) -> dict[str, Any]:
    commit = COMMITS[role]
    named = {"repository": repository, "revision": "main", "commit": commit}
    return {"path": f"hf://{repository}@{commit}", **named, "shards": []}


def tensor(layer: int | None, kind: str = "mlp", **changes: Any) -> TensorResult:
    values: dict[str, Any] = {
        "name": f"model.layers.{layer}.{kind}",
        "tower": "language",
        "kind": kind,
        "layer": layer,
        "module": "x",
        "elements": 1000,
        "restored": 100,
        "mean_score": 0.5,
    }
    return TensorResult(**(values | changes))


def figures(tensors: tuple[TensorResult, ...] = (), strategy: str = "top") -> ModelFigures:
    tensors = tensors or (tensor(0), tensor(0, "attention"), tensor(1, restored=0))
    return ModelFigures(
        choice=Choice(region="transformer", strategy=strategy, percent=10.0, score="relative"),
        cut=CutFigures(
            region_elements=sum(one.elements for one in tensors),
            selected_elements=sum(one.restored for one in tensors),
            threshold=0.0625,
            exact=True,
        ),
        tie_keys=KeyRange(first=1, count=1),
        ties=TieFigures(count=12345, taken=1234),
        changes=ChangeFigures(unchanged_share=0.25, zero_base_share=0.00000123, nonfinite=0),
        scores=ScoreFigures(total=STATISTICS, selected=STATISTICS),
        tensors=tensors,
        notes=(),
    )


FILES = describe_side_files(SideFiles())


def card(
    model: ModelFigures | None = None,
    base: dict[str, Any] | None = None,
    target: dict[str, Any] | None = None,
    inherited: dict[str, Any] | None = None,
    kept_card: str | None = None,
    **options: Any,
) -> str:
    inputs = {"base": base or local("/models/base"), "target": target or local("/models/sft")}
    text = encode_card(
        model or figures(),
        inputs,
        OPTIONS | options,
        FILES,
        inherited=inherited or {},
        kept_card=kept_card,
    )
    return text.decode()


def metadata(text: str) -> dict[str, Any]:
    return dict(ModelCard(text).data.to_dict())


def code_block(text: str) -> str:
    """Return the command in a card as it stands there."""
    ticks, _, rest = text.partition("makes it again\n\n")[2].partition("\n")
    return rest.partition(f"\n{ticks}\n")[0]


def command(text: str) -> list[str]:
    """Return the words of the command in a card, as bash reads them."""
    code = code_block(text)
    script = f"shardrestore() {{ printf '%s\\0' \"$@\"; }}\n{code}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stderr == b""
    return [word.decode("utf-8", "surrogateescape") for word in done.stdout.split(b"\0")[:-1]]


# --- Metadata ---


def test_both_repositories_and_the_licence_of_the_target_are_told_to_the_hub() -> None:
    inherited = {
        "license": "other",
        "license_name": "llama3.1",
        "license_link": "LICENSE",
        "language": ("no", "en"),
        "pipeline_tag": "text-generation",
        "base_model": "acme/before",
    }
    found = metadata(
        card(None, on_hub("acme/base", "base"), on_hub("acme/sft", "target"), inherited)
    )
    assert found == {
        **inherited,
        "language": ["no", "en"],
        "base_model": ["acme/sft", "acme/base"],
        "library_name": "transformers",
        "tags": ["shardrestore", "parameter-restoration"],
    }


@pytest.mark.parametrize(
    ("named", "base", "expected"),
    [
        (None, None, None),
        ("acme/before", None, ["acme/before"]),
        ("gpt2", None, ["gpt2"]),
        (["acme/x", "/home/me/models/base", "../base", "a/b/c"], None, ["acme/x"]),
        ("/workspace/llama", None, None),
        ("acme/base", on_hub("acme/base", "base"), ["acme/base"]),
    ],
)
def test_of_local_inputs_only_what_the_target_s_card_names_is_told(
    named: Any, base: Any, expected: Any
) -> None:
    found = metadata(card(base=base, inherited={"base_model": named} if named else {}))
    assert found.get("base_model") == expected


# --- The command ---


def test_the_command_pins_commits_and_names_what_decides_the_result_alone() -> None:
    text = card(
        figures(strategy="random"),
        on_hub("acme/base", "base"),
        local("/home/me/models/my sft"),
        strategy="random",
        seed=7,
        include=["mlp|attn", "it's"],
        rename=["^a=b"],
        dtype="bf16",
        approximate=True,
        allow_nonfinite=True,
        percent=0.5,
    )
    assert command(text) == [
        *("run", "--base", f"acme/base@{COMMITS['base']}", "--target", "my sft"),
        *("--output", "restored", "-k", "0.5", "--region", "transformer"),
        *("--include", "mlp|attn", "--include", "it's", "--rename", "^a=b"),
        *("--strategy", "random", "--seed", "7", "--dtype", "bf16"),
        *("--approximate", "--allow-nonfinite"),
    ]
    assert "/home/me" not in text
    assert "cast to bf16" in text


def test_the_command_of_a_card_makes_the_same_model_again(tmp_path: Path) -> None:
    scene = Scene.make(tmp_path)
    scene.run("-k", "7.5", "--strategy", "random", "--seed", "9", "--exclude", "q_proj")
    written = (scene.output / "README.md").read_text()
    (scene.root / "again").mkdir()
    again = Scene(scene.root / "again")
    for side in ("base", "target"):
        (again.root / side).symlink_to(scene.root / side)
    done = again.cli(*command(written)[1:])
    assert (done.returncode, done.stderr) == (0, "")
    assert (again.root / "restored" / "README.md").read_text() == written
    for path in scene.output.glob("*.safetensors"):
        assert (again.root / "restored" / path.name).read_bytes() == path.read_bytes()


# --- The body ---


def test_inputs_are_linked_at_their_commits_and_facts_are_told() -> None:
    text = card(None, on_hub("acme/base", "base"), on_hub("acme/sft", "target"))
    for role, repository in (("base", "acme/base"), ("target", "acme/sft")):
        commit = COMMITS[role]
        assert f"https://huggingface.co/{repository}/tree/{commit})" in text
    for fact in (
        "≥ 0.0625",
        "12,345 weights, 1,234 of them",
        "200 of 3,000",
        "25.00 %",
        "0.0001 %",
    ):
        assert fact in text
    assert "https://arxiv.org/abs/2509.16596" in text
    assert "shardrestore verify" in text


def test_the_table_has_the_share_of_each_layer_kind_and_all() -> None:
    text = card()
    for row in (
        "| layer | attention | mlp | all |",
        "| 0 | 10.00 % | 10.00 % | 10.00 % |",
        "| 1 |  | 0.00 % | 0.00 % |",
        "| all | 10.00 % | 5.00 % | 6.67 % |",
        "| mlp | 2 | 2,000 | 100 | 5.00 % |",
    ):
        assert f"\n{row}\n" in text


def test_layers_of_a_deep_model_share_rows() -> None:
    tensors = tuple(tensor(number) for number in range(126))
    towers = tuple(tensor(number, tower="vision") for number in range(40))
    text = card(figures((*tensors, *towers, tensor(None, "embedding"))))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    labels = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert {"0–3", "124–125", "vision 0–1", "vision 38–39", "outside"} <= {*labels}
    assert len(rows) < 80


def test_a_card_stays_small_for_46_080_tensors() -> None:
    tensors = tuple(
        tensor(layer, name=f"model.layers.{layer}.mlp.experts.{number}")
        for layer in range(60)
        for number in range(768)
    )
    assert len(card(figures(tensors))) < 60_000
    odd = tuple(tensor(10**480 + number, name=str(number)) for number in range(46_080))
    assert len(card(figures(odd))) < 60_000


def test_the_target_s_card_is_linked_where_it_is_kept() -> None:
    assert "[README.target.md](README.target.md)" in card(kept_card="README.target.md")
    assert "README.target.md" not in card()


# --- Names of others ---


def render(text: str) -> list[Any]:
    """Return the tokens of a card's body, as CommonMark with tables has them."""
    from markdown_it import MarkdownIt

    body = ModelCard(text).text
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    return [child for token in tokens for child in (token, *(token.children or ()))]


def structure(text: str) -> list[tuple[Any, ...]]:
    """Return what a card is made of, without the contents of code."""
    return [
        (token.type, token.tag, "" if token.type in ("code_inline", "fence") else token.content)
        for token in render(text)
        if token.type != "inline"
    ]


@examples(75)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_names_and_patterns_are_neither_markdown_nor_html(
    base: str, target: str, pattern: str
) -> None:
    base, target = base.replace("/", ":"), target.replace("/", ":")
    plain = card(include=["x"], inherited={"license": "mit"})
    odd = card(
        None,
        local(f"/models/{base}"),
        local(f"/models/{target}"),
        include=[pattern],
        inherited={"license": "mit"},
    )
    assert structure(odd) == structure(plain)
    assert metadata(odd) == metadata(plain)


@examples(50)
@given(HOSTILE)
def test_notes_are_neither_markdown_nor_html(text: str) -> None:
    def noted(text: str) -> str:
        return card(dataclasses.replace(figures(), notes=(Note(kind="x", text=text),)))

    assert structure(noted(text)) == structure(noted("x"))


@examples(50)
@given(HOSTILE, st.lists(HOSTILE, min_size=1, max_size=3))
def test_metadata_of_others_stay_one_text_each(licence: str, languages: list[str]) -> None:
    found = metadata(card(inherited={"license": licence, "language": tuple(languages)}))
    assert found.keys() == {"language", "library_name", "license", "tags"}
    assert isinstance(found["license"], str)
    assert len(found["language"]) == len(languages)
    if licence.isprintable():
        assert found["license"] == licence


@examples(50)
@given(HOSTILE.filter(str.isprintable))
def test_any_printable_pattern_is_one_word_of_the_command(pattern: str) -> None:
    words = shlex.split(code_block(card(include=[pattern])))
    assert words[words.index("--include") + 1] == pattern


@pytest.mark.parametrize("pattern", ["a\nb", "it's\ta", "```\n# x", "\x1b[2J", "\\n\r", "é\n模"])
def test_bash_reads_control_characters_back(pattern: str) -> None:
    text = card(include=[pattern])
    assert command(text)[-3] == pattern
    assert code_block(text).replace(" \\\n", "").isprintable()


# --- In a model's folder ---


def test_the_target_s_card_is_kept_and_its_licence_passed_on(tmp_path: Path) -> None:
    own = b"\xef\xbb\xbf---\r\nlicense: apache-2.0\r\nlanguage: no\r\n---\r\n# Mine\r\n"
    older = b"# Before mine\n"
    scene = Scene.make(tmp_path)
    (scene.target / "README.md").write_bytes(own)
    (scene.target / "README.target.md").write_bytes(older)
    scene.run("--checksum")
    assert (scene.output / "README.target.md").read_bytes() == own
    assert (scene.output / "README.target.target.md").read_bytes() == older
    found = ModelCard.load(scene.output / "README.md").data
    assert (found.license, found.language) == ("apache-2.0", "no")
    sums = (scene.output / "SHA256SUMS").read_text()
    assert all(f"  {name}\n" in sums for name in ("README.md", "README.target.md"))
    assert scene.cli(command="verify", cwd=tmp_path).returncode == 2  # names no folder
    assert shardrestore.verify(scene.output, max_memory="16GiB").ok


def test_a_card_is_the_same_wherever_and_however_it_was_made(tmp_path: Path) -> None:
    cards = set()
    for number, options in enumerate((["--workers", "1"], ["--workers", "2"])):
        scene = Scene.make(tmp_path / str(number))
        scene.run(*options, "--output", f"out-{number}")
        cards.add((scene.root / f"out-{number}" / "README.md").read_bytes())
    assert len(cards) == 1
    assert str(tmp_path).encode() not in cards.pop()


def test_each_model_of_a_sweep_has_its_own_card(tmp_path: Path) -> None:
    values = {f"model.layers.{n}.mlp.up_proj.weight": store([1.0, 2.0, 3.0, 4.0]) for n in "01"}
    changed = {name: store([1.5, 2.0, 9.0, 4.0]) for name in values}
    write_checkpoint(tmp_path / "base", values)
    write_checkpoint(tmp_path / "target", changed, side_files={"README.md": b"# Mine\n"})
    results = shardrestore.sweep(
        tmp_path / "base",
        tmp_path / "target",
        tmp_path / "sweep",
        percents=[25, 50],
        max_memory="16GiB",
    )
    for result in results:
        text = (result.output / "README.md").read_text()
        assert f"-k {result.percent:g}" in text
        record = json.loads((result.output / "shardrestore.json").read_text())
        assert f"{record['cut']['selected_elements']:,} of 8 weights" in text
        assert (result.output / "README.target.md").read_bytes() == b"# Mine\n"
