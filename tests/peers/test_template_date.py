"""Chat templates that write today's date write a fixed one."""

from datetime import datetime

import pytest
from helpers import chat
from transformers.utils import chat_template_utils

from pst_rl import Juror
from pst_rl.benchmarks.model import LanguageModel
from pst_rl.peers.asked import Asked
from pst_rl.peers.reader import PromptReader, load_tokenizer
from pst_rl.peers.template_date import TEMPLATE_DATE, check_date, with_date

DAY = "2031-02-05"
TEMPLATES = {
    "plain": "{{ strftime_now('%d %b %Y') }}|{{ messages[0].content }}",
    "as_llama_has_it": """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "Today Date: " + date_string }}""",
    "inside_a_macro": "{% macro head() %}{{ strftime_now('%B %d, %Y') }}{% endmacro %}{{ head() }}{{ head() }}",
    "inside_a_loop": "{% for m in messages %}{{ m.content }}{{ strftime_now('%A %-d/%-m/%y') }}{% endfor %}",
    "computed_with": "{% set now = strftime_now('%d-%m-%Y').split('-') %}{{ now[0] | int - 1 }}",
    "the_time": "{{ strftime_now('%H:%M:%S %I %p %j %%d %%') }}",
    "a_newline_in_front": "\n  {% if true %}\n{{ strftime_now('%F') }}\n{% endif %}\n",
    "a_block_in_front": "   {%- if true -%} x {{ strftime_now('%Y-%m-%d') }}{% endif %}",
    "by_name": "{{ strftime_now(format='%c') }}",
}


@pytest.fixture
def tokenizer(tiny):
    return load_tokenizer(tiny["llama"])


@pytest.fixture
def clock(monkeypatch):
    """`clock(day)`: what day transformers takes it to be."""

    def set_to(day):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.fromisoformat(day)

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)

    return set_to


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_writes_the_day_as_it_would_on_that_day(tokenizer, clock, template):
    def written(template):
        return tokenizer.apply_chat_template(chat("?"), chat_template=template, tokenize=False)

    clock(DAY)
    on_the_day = written(template)
    clock("1999-12-31")
    assert written(template) != on_the_day == written(with_date(template, DAY))


def test_a_template_without_a_date_is_left_as_it_is(tokenizer):
    assert with_date(tokenizer.chat_template, DAY) is tokenizer.chat_template
    reader = PromptReader(tokenizer, template_date=DAY)
    assert reader.chat_template is None and reader.template_date is None


def test_every_reader_asks_the_same_on_every_day(trainer, tokenizer, tiny, tmp_path, clock):
    tokenizer.chat_template = TEMPLATES["as_llama_has_it"] + "{{ messages[0].content }}{{ mode }}"
    words, prompt = {"mode": "brief"}, chat("2+2?")

    def asked(day=None):
        run = trainer({"llama": tiny["llama"]}, chat_template_kwargs=words, template_date=day)
        engine = run.engines[0]
        how = Asked(chat_template_kwargs=words, template_date=day)
        return [
            PromptReader(tokenizer, chat_template_kwargs=words, template_date=day).render(prompt),
            Juror(engine.model, tokenizer, chat_template_kwargs=words, template_date=day).render(prompt),
            LanguageModel(engine.model, tokenizer, "a", "d", how).render(prompt),
        ]

    clock("1999-12-31")
    first = asked()
    clock("2000-01-01")
    assert asked() == first and set(first) == {"Today Date: 26 Jul 20242+2?brief"}
    assert set(asked(DAY)) == {"Today Date: 05 Feb 20312+2?brief"}


def test_a_run_asks_with_the_day_it_is_given(trainer, tiny, tokenizer, tmp_path):
    tokenizer.chat_template = TEMPLATES["plain"]
    tokenizer.save_pretrained(tmp_path / "dated")
    dated = load_tokenizer(tmp_path / "dated")
    from pst_rl import PeerSpec

    def engine(**settings):
        return trainer({"llama": PeerSpec(tiny["llama"], processing_class=dated)}, **settings).engines[0]

    assert engine().render(chat("2+2?")) == "26 Jul 2024|2+2?" == PromptReader(dated).render(chat("2+2?"))
    assert engine(template_date=DAY).render(chat("2+2?")) == "05 Feb 2031|2+2?"


def test_what_is_no_day_is_refused(config, tokenizer):
    assert check_date(TEMPLATE_DATE) == TEMPLATE_DATE
    for made in (lambda: config(template_date="today"), lambda: PromptReader(tokenizer, template_date="5.2.2031")):
        with pytest.raises(ValueError, match="must be written as YYYY-MM-DD"):
            made()
