"""report.html: complete, harmless, small, the same every time."""

from __future__ import annotations

import errno
import re
from html.parser import HTMLParser

import evaluations
import pytest
from evaluations import hypothesis, whole_run, write_rows

from speechtune.errors import OutputError
from speechtune.reporting.report import write_report

ALIEN = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \x00\x1b \u202etxet {{ 7*7 }} </textarea>]]>"


class Page(HTMLParser):
    """Tags, attributes and text of a page; refuses tags that are not closed in order."""

    VOID = {"meta", "input", "br"}  # noqa: RUF012

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.attributes, self._open = [], "", [], []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.text += " "
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        self.text += " "
        assert self._open.pop() == tag, f"{tag} closed at {self.getpos()}"

    def handle_data(self, data):
        if self._open[-1:] not in (["script"], ["style"]):
            self.text += data


@pytest.fixture
def run_folder(tmp_path):
    whole_run(tmp_path / "run")
    return tmp_path / "run"


def page_of(folder, **options):
    return Page(write_report(folder, **options).read_text(encoding="utf-8"))


def test_the_head_says_what_was_measured_how_well_and_how_surely(run_folder):
    text = " ".join(page_of(run_folder).text.split())
    assert "wav2vec2-base on common_voice/tr" in text
    assert "WER, word error rate, test 37.5 % 95 % interval 30.0 to 45.0 %" in text
    assert "Of every 100 words spoken, about 62 are recognised correctly; 25 are taken for another word" in text
    assert "The 95 % interval is over 2 speakers only, so it is wide and rough." in text
    assert "12.5 % CER, character error rate" in text
    assert "Protocol default: lower; filtered by f 1; 3 excluded; precision bf16; hash ab12" in text


def test_every_part_of_a_whole_run_has_its_section(run_folder):
    page = page_of(run_folder)
    ids = [value for tag, name, value in page.attributes if name == "id" and tag == "section"]
    assert ids == ["summary", "training", "errors", "samples", "utterances", "skipped", "settings"]
    text = " ".join(page.text.split())
    assert "10 steps 1 epoch 1 min 5 s training time 63 training utterances" in text
    assert "2 too long train 2" in text
    assert "non finite: loss; utterances: id bad, loss nan" in text
    assert "dört dord" in text


def test_the_same_folder_gives_the_same_bytes(run_folder):
    first = write_report(run_folder).read_bytes()
    assert first == write_report(run_folder).read_bytes()


def test_the_title_can_be_given(run_folder):
    page = page_of(run_folder, title="Demo <1>")
    assert page.text.count("Demo <1>") == 2  # title and heading


def test_text_of_strangers_stays_text(run_folder):
    whole_run(run_folder, alien=ALIEN)
    whole_run(run_folder.parent / "tame")
    page, tame = page_of(run_folder), page_of(run_folder.parent / "tame")
    assert [value for tag, _, value in page.attributes if tag == "script"].count("application/json") == 2
    assert page.tags.count("script") == 3
    assert set(page.tags) == set(tame.tags)
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", write_report(run_folder).read_text(encoding="utf-8"))


def test_nothing_is_loaded_and_only_our_script_may_run(run_folder):
    text = write_report(run_folder).read_text(encoding="utf-8")
    page = Page(text)
    (policy,) = [v for tag, name, v in page.attributes if tag == "meta" and name == "content" and "default-src" in v]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "@import" not in text
    assert "url(" not in text
    links = [v for _, name, v in page.attributes if name in ("src", "href", "action", "srcset")]
    assert all(link.startswith("#") for link in links)


def test_the_hash_in_the_policy_is_that_of_the_script(run_folder):
    import base64
    import hashlib

    text = write_report(run_folder).read_text(encoding="utf-8")
    script = re.search(r"<script>(.*)</script>", text, re.S)[1]  # the one that runs; the others are data
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in text


def test_errors_are_marked_by_strike_and_underline_not_by_colour_alone(tmp_path):
    evaluations.write(tmp_path, hypothesis("1", "a b c d e", "a x c d e f"))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert (
        '<p dir="auto" class="d">a <span class="r"><del>b</del> <ins>x</ins></span> c d e <ins class="a">f</ins></p>'
        in text
    )
    assert re.search(r"\ndel \{[^}]*line-through", text)
    assert re.search(r"\nins \{[^}]*underline", text)


def test_every_text_of_a_corpus_finds_its_own_direction(tmp_path):
    evaluations.write(tmp_path, hypothesis("1", "مرحبا بالعالم", "مرحبا"))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert '<p dir="auto" class="d">مرحبا <del class="m">بالعالم</del></p>' in text


def test_a_run_cut_short_before_its_evaluation_shows_the_last_one_of_the_training(tmp_path):
    history = [{"step": 100, "loss": 3.0}, {"step": 100, "eval_wer": 0.5}]
    state = {"global_step": 100, "max_steps": 900, "log_history": history}
    write_rows(tmp_path / "checkpoint-100", "trainer_state.json", state)
    text = " ".join(page_of(tmp_path).text.split())
    assert "WER, word error rate, at step 100 50.0 %" in text
    assert "the run holds no final scores" in text
    assert "Training reached step 100 of 900." in text
    assert "Utterances" not in text


def test_a_run_without_any_score_still_gets_a_report(tmp_path):
    write_rows(tmp_path, "settings.json", {"seed": 1})
    assert "This run holds no scores yet." in page_of(tmp_path).text


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "eval_results.json").write_text("{")
    with pytest.raises(OutputError, match=r"eval_results.json: can't be read(.|\n)*Remove it"):
        write_report(tmp_path)


def test_an_evaluation_without_hypotheses_and_one_without_errors_are_shown(tmp_path):
    write_rows(tmp_path, "eval_results.json", {"eval_wer": 0.25, "eval_samples": 8})
    evaluations.write(tmp_path, hypothesis("1", "a", "a"), suffix="_good")
    text = " ".join(page_of(tmp_path).text.split())
    assert "Of every 100 words, about 25 are wrong." in text
    assert "No utterance has an error." in text


def test_an_empty_reference_has_no_rate(tmp_path):
    evaluations.write(tmp_path, hypothesis("1", "", "a", duration_s=1.0))
    text = " ".join(page_of(tmp_path).text.split())
    assert "no reference" in text
    assert "inf" not in text.replace("information", "")


def test_rows_beyond_the_size_of_the_table_are_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("speechtune.reporting.report.TABLE_BYTES", 20_000)
    evaluations.write(tmp_path, *(hypothesis(f"{i}", "bir iki üç", "x " * (1 + i % 7)) for i in range(1_000)))
    path = write_report(tmp_path)
    assert path.stat().st_size < 120_000
    text = " ".join(Page(path.read_text(encoding="utf-8")).text.split())
    assert re.search(r"The [\d,]+ utterances with the most word errors, of 1,000; .* in hypotheses.jsonl", text)


def test_what_was_before_training_stands_before_what_is_now(run_folder):
    old = hypothesis("u2", "bir iki üç dört", "bir")
    evaluations.write(run_folder / "old", old, hypothesis("u1", "bir iki üç dört ", "bir iki üç dort"))
    for name in ("eval_results.json", "hypotheses.jsonl"):
        (run_folder / "old" / name).rename(run_folder / ("baseline_" + name.replace("eval_", "")))
    text = " ".join(page_of(run_folder).text.split())
    assert "50.0 % before training, after it: 37.5 %" in text
    assert "WER before training" in text and "better than before training" in text
    assert "before training, 3 word errors bir iki üç dört" in text


def test_the_recordings_of_a_corpus_can_be_heard_and_left_out(run_folder):
    import numpy as np
    import soundfile

    clip = run_folder / "clip.wav"
    soundfile.write(clip, np.sin(np.arange(16_000) / 10) / 2, 16_000)
    evaluations.write(run_folder, hypothesis("u1", "bir", "iki", file=str(clip), duration_s=1.0))
    text = write_report(run_folder).read_text(encoding="utf-8")
    assert "Audio of 1 utterance is in this page; " in text and '<div class="player" data-clip="0"' in text
    silent = write_report(run_folder, report_audio_mb=0.0).read_text(encoding="utf-8")
    assert 'class="player"' not in silent and '<script type="application/json" id="audio">[]</script>' in silent


def test_a_report_whose_recordings_are_gone_says_that_it_is_without_audio(run_folder, caplog):
    caplog.set_level("INFO", logger="speechtune")
    assert "Without audio: the recordings were not found" in page_of(run_folder).text
    assert "report without audio" in caplog.text


def test_an_endless_hypothesis_is_cut_and_the_cut_is_said(tmp_path):
    evaluations.write(tmp_path, hypothesis("1", "a", "la " * 50_000))
    path = write_report(tmp_path)
    assert path.stat().st_size < 300_000
    assert re.search(r"and \d\d,\d\d\d more words", path.read_text(encoding="utf-8"))


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(OutputError, match=r"no results of a run.\nLooked for eval_results.json"):
        write_report(tmp_path)
    with pytest.raises(OutputError, match=r"no such folder.\n(.|\n)*Give the --output_dir"):
        write_report(tmp_path / "nowhere")


def test_a_report_that_cannot_be_written_is_an_error(run_folder):
    (run_folder / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"report.html: can't be written"):
        write_report(run_folder)


def test_a_read_only_folder_is_one_message(run_folder, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("speechtune.files.replacing", refuse)
    with pytest.raises(OutputError, match=rf"^{run_folder}\S*: can't be written: Read-only file system.\nMake it"):
        write_report(run_folder)


def test_a_folder_and_a_file_whose_names_are_not_utf8_are_shown_escaped(tmp_path):
    folder = tmp_path / "run\udcff"
    evaluations.write(folder, hypothesis("1", "bir", "iki", file="clip\udcff.wav"))
    text = page_of(folder).text
    assert "run[U+DCFF]" in text and "clip[U+DCFF].wav" in text
