"""What the normalisers keep and delete, read as a specification."""

from __future__ import annotations

import csv
import pickle
import re
import shlex
import subprocess
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechtune.errors import OptionError
from speechtune.text.normalise import Normaliser, ReadmeNormaliser, make_normaliser

# As the README writes it, with the line's end and the next option.
README_LINES = '--chars_to_ignore , ? . ! - \\; \\: \\" “ % ‘ ” � \\\n\t--fp16'
README_CHARS = (",", "?", ".", "!", "-", ";", ":", '"', "“", "%", "‘", "”", "�")


def chars_as_shlex_reads_them() -> tuple[str, ...]:
    arguments = shlex.split(README_LINES)
    return tuple(arguments[1 : arguments.index("--fp16")])


def test_a_shell_passes_the_thirteen_signs_of_the_readme(tmp_path: Path):
    script = tmp_path / "command.sh"  # a clean folder: the shell expands an unquoted ? to one-letter files
    script.write_text(f'show() {{ printf "%s\\n" "$@"; }}\nshow {README_LINES}\n', encoding="utf-8")
    output = subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, check=True).stdout.decode()
    assert tuple(output.splitlines()) == ("--chars_to_ignore", *README_CHARS, "--fp16")


def test_shlex_leaves_a_line_feed_that_is_no_character_to_ignore():
    chars = chars_as_shlex_reads_them()
    assert chars == (*README_CHARS, "\n")
    assert Normaliser(chars, "tr")("bir\niki  üç!") == "bir iki üç"


@pytest.mark.parametrize("last", ["", "\n", "\\", " ", "\r\n"])
def test_readme_characters_keep_apostrophes_and_digits_whatever_ends_the_line(last: str):
    normalise = Normaliser((*README_CHARS, last), "tr")
    assert normalise("Türkiye'nin 25 ili: “güzel” - değil mi?") == "türkiye'nin 25 ili güzel değil mi"


def test_readme_protocol_deletes_the_range_from_exclamation_mark_to_semicolon():
    normalise = make_normaliser("readme", README_CHARS)
    assert normalise("Türkiye'nin 25 ili") == "türkiyenin  ili "


def test_readme_protocol_equals_the_original_arithmetic_on_any_text():
    chars = "".join(README_CHARS)
    normalise = ReadmeNormaliser(README_CHARS)
    for text in ("İstanbul #1 (a+b)*c/d $5 & 'x'", "IŞIK", "", " a ", "café-bar; né?"):
        assert normalise(text) == re.sub(f"[{chars}]", "", text).lower() + " "


def test_readme_protocol_without_space_for_sequence_to_sequence():
    assert make_normaliser("readme", None, trailing_space=False)("A b!") == "a b!"
    assert make_normaliser("readme", None, lower_case=False, trailing_space=False)("A b!") == "A b!"


def test_readme_protocol_names_a_class_that_is_no_regular_expression():
    with pytest.raises(OptionError, match=r"--chars_to_ignore: .*class \[,\\\], which is not valid"):
        make_normaliser("readme", [",", "\\"])


def test_literal_ignore_keeps_apostrophe_and_digits():
    assert Normaliser(("!-;",))("don't 1994!") == "don't 1994"


def test_signs_of_regular_expressions_are_literal():
    assert Normaliser(("^", "]", "\\", "[", ".", "*", "-"))("a^b]c\\d[e.f*g-h") == "abcdefgh"
    assert Normaliser(("a-c",))("abc") == "abc"


def test_several_signs_in_one_argument_are_a_set_of_characters():
    assert Normaliser((",.;",))("a,b.c;d") == "abcd"


def test_an_argument_with_letters_is_deleted_as_a_whole():
    assert Normaliser(("[laughter]",))("laugh [laughter] light") == "laugh light"


def test_no_characters_to_ignore_deletes_nothing():
    for chars in (None, [], ["", " "]):
        assert make_normaliser("default", chars)("A, b!") == "a, b!"


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("tr", "IŞIK İZMİR ılık ince", "ışık izmir ılık ince"),
        ("az", "İLIQ", "ilıq"),
        ("crh", "QIRIM", "qırım"),
        ("tr", "I\u0307zmir", "izmir"),  # decomposed İ
        ("tr", "i\u0307zmir", "izmir"),  # what a lowering without a language left behind
        ("en", "I AM", "i am"),
        ("de", "STRAẞE Öl", "straße öl"),
        ("lt", "Ì Í Ĩ J\u0301 Į\u0303 IŠ", "i̇̀ i̇́ i̇̃ j̇́ į̇̃ iš"),
        ("el", "ΟΔΟΣ ΣΑΣ", "οδος σας"),
        (None, "ÉCOLE", "école"),
    ],
)
def test_letters_are_lowered_as_the_language_does(language: str | None, text: str, expected: str):
    assert Normaliser((), language)(text) == unicodedata.normalize("NFC", expected)


def test_lower_casing_can_be_skipped():
    assert Normaliser((), "tr", do_lower_case=False)("IŞIK  İzmir") == "IŞIK İzmir"


def test_hindi_keeps_nukta_and_vowel_signs():
    # "लड़का पढ़ाई" with the nukta as a mark of its own and composed: one spelling, nothing lost
    for text in ("लड\u093cका पढ\u093cाई", "ल\u095cका प\u095dाई"):
        assert Normaliser(("।", ","))(text + "।") == "लड\u093cका पढ\u093cाई"


def test_joiners_that_spell_are_kept_and_invisible_controls_are_not():
    assert Normaliser()("می\u200cخواهم") == "می\u200cخواهم"
    assert Normaliser()("\ufeffa\u00adb\u200e c\u2060d\x00") == "ab cd"


def test_equal_looking_text_becomes_equal():
    assert Normaliser()("e\u0301cole") == Normaliser()("école") == "école"
    assert Normaliser(("e\u0301",))("école") == "cole"


def test_white_space_of_every_kind_is_one_space():
    assert Normaliser()("\t a\u00a0\u3000b\r\n c ") == "a b c"


def test_a_lone_surrogate_does_not_reach_the_vocabulary_file():
    assert Normaliser()("a\ud800b").encode("utf-8") == b"ab"


def test_description_is_one_line_and_hash_follows_it():
    normalise = make_normaliser("default", [",", "!", "\n"], language="tur")
    assert normalise.describe() == ("Unicode NFC; deleted literally: , !; lower case (tr); white space collapsed")
    assert "\n" not in make_normaliser("readme", [",", "\n"]).describe()
    assert normalise.hash() == make_normaliser("default", [",", "!"], language="tr").hash()
    assert len({normalise.hash(), Normaliser((",", "!")).hash(), ReadmeNormaliser((",", "!")).hash()}) == 3
    assert re.fullmatch("[0-9a-f]{12}", normalise.hash())


def test_letters_among_the_characters_are_pointed_out():
    assert Normaliser((",", "a", "7", "[laughter]")).letters_ignored() == "a7"
    assert Normaliser(README_CHARS).letters_ignored() == ""


def test_normalisers_travel_to_worker_processes():
    for normalise in (Normaliser((",",), "tr"), ReadmeNormaliser((",",))):
        copy = pickle.loads(pickle.dumps(normalise))
        assert copy == normalise
        assert copy("I,A") == normalise("I,A")


@given(st.text(max_size=40), st.sampled_from([None, "tr", "lt", "hi"]))
def test_normalising_twice_changes_nothing(text: str, language: str | None):
    normalise = Normaliser(README_CHARS, language)
    once = normalise(text)
    assert normalise(once) == once
    assert once == once.strip()


def test_speed_is_of_the_order_of_100_000_transcripts_a_second():
    normalise = Normaliser(README_CHARS, "tr")
    texts = ["Türkiye'nin 25 ili, “güzel” - değil mi? Işık İzmir'de."] * 2000
    seconds = []
    for _ in range(5):
        start = time.process_time()
        for text in texts:
            normalise(text)
        seconds.append(time.process_time() - start)
    assert len(texts) / min(seconds) > 30_000  # 150,000 on a free core; the machine may be busy


@pytest.mark.real_data
@pytest.mark.parametrize("language", ["hi", "tr", "sv-SE", "it", "de"])
def test_real_transcripts_lose_nothing_but_the_signs_and_the_case(language: str):
    corpus = Path(__file__).parents[3] / "shared" / "assets" / "common_voice"
    tables = sorted(corpus.glob(f"*/{language}/validated.tsv"))
    if not tables:
        pytest.skip(f"no Common Voice clips in {corpus}")
    with tables[0].open(encoding="utf-8", newline="") as file:
        texts = [row["sentence"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert len(texts) > 50
    normalise = make_normaliser("default", README_CHARS, language=language)
    for text in texts:
        lowered = make_normaliser("default", language=language)(text)
        kept = [char for char in lowered if char not in README_CHARS and not char.isspace()]
        assert [char for char in normalise(text) if char != " "] == kept
