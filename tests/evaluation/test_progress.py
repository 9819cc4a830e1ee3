import io

from if_factory.evaluation.progress import Progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_answers_rate_and_time_left_are_on_the_console_and_in_the_log(tmp_path):
    clock, console = Clock(), io.StringIO()
    with Progress(4, tmp_path / "out" / "evaluation.log", console, clock) as progress:
        progress.model("before", "smollm2")
        for _ in range(100):
            progress.generated(2)
        clock.now = 20.0
        progress.generated(0)
        progress.answer(100)
        progress.answer(100)
        assert progress.line() == "before: 2 of 4 answers, 10 tokens/s, 20 s left"
    for text in (console.getvalue(), (tmp_path / "out" / "evaluation.log").read_text()):
        assert "before: smollm2" in text
        assert "10 tokens/s" in text
    assert "\r" not in console.getvalue()


def test_answers_of_an_earlier_run_do_not_make_it_look_fast(tmp_path):
    clock = Clock()
    with Progress(10, tmp_path / "evaluation.log", io.StringIO(), clock) as progress:
        progress.model("before", "m")
        for _ in range(8):
            progress.answer(50)
        assert progress.line() == "before: 8 of 10 answers"
        progress.generated(0)
        clock.now = 10.0
        progress.generated(50)
        progress.answer(50)
        assert progress.line() == "before: 9 of 10 answers, 5 tokens/s, 10 s left"


def test_no_rate_is_shown_before_there_is_one(tmp_path):
    clock = Clock()
    with Progress(4, tmp_path / "evaluation.log", io.StringIO(), clock) as progress:
        progress.model("before", "m")
        progress.generated(50)
        clock.now = 1e-5
        assert progress.line() == "before: 0 of 4 answers"


def test_a_terminal_sees_one_line_that_changes(tmp_path):
    console = io.StringIO()
    console.isatty = lambda: True
    with Progress(2, tmp_path / "evaluation.log", console, Clock()) as progress:
        progress.generated(5)
        progress.answer(5)
    assert "\r" in console.getvalue()
