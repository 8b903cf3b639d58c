"""The tiny model is the same everywhere, whole or not there, and a true tokenizer comes with it."""

from __future__ import annotations

import json

import pytest

from engine_agents.vllm_engine.tiny_model import main, make_tiny_model

FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
)


def contents(path):
    return {name: (path / name).read_bytes() for name in FILES}


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    one, two, other = (make_tiny_model(tmp_path / str(n), seed=n == 3) for n in (1, 2, 3))

    assert contents(one) == contents(two)
    assert contents(one)["model.safetensors"] != contents(other)["model.safetensors"]


def test_a_model_that_is_there_is_left_alone_and_half_a_one_is_made_anew(tmp_path):
    path = make_tiny_model(tmp_path / "m")
    before = (path / "model.safetensors").stat().st_mtime_ns
    make_tiny_model(path)
    assert (path / "model.safetensors").stat().st_mtime_ns == before

    (path / "model.safetensors").unlink()
    make_tiny_model(path)
    assert (path / "model.safetensors").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_folder_with_other_things_is_not_touched(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(FileExistsError, match="choose another folder"):
        make_tiny_model(tmp_path)
    assert main([str(tmp_path)]) == 1
    assert "cannot make the tiny model" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_eight_kibibytes_of_kv_per_token(tmp_path):
    config = json.loads((make_tiny_model(tmp_path / "m") / "config.json").read_text())

    heads, size, layers = (config[key] for key in ("num_key_value_heads", "head_dim", "num_hidden_layers"))
    assert 2 * heads * size * layers * 4 == 8192


def test_any_text_comes_back_from_the_tokenizer(tmp_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(make_tiny_model(tmp_path / "m") / "tokenizer.json"))
    for text in ("the scheduler decides", "Grüße, 漢字 and \U0001f600\n\ttabs", "\x00\x7f"):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
    assert len(tokenizer.encode("the scheduler decides which requests run").ids) < 15
