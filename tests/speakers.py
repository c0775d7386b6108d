"""Peers that answer without a model, and what they are asked: for tests of rollouts, views and discussions."""

from helpers import chat

from pst_rl.answers import find_answer
from pst_rl.peers.prompts import PromptFormat, show_peers
from pst_rl.records import Rollout
from pst_rl.stages.rollout import RolloutRequest

FORMAT = PromptFormat(chat=True, system=True, base_template="{prompt}")


def a_rollout(prompts, texts, finished=True, logprobs=None):
    """The rollout of these texts, a character a token."""
    ids = [[ord(c) for c in text] for text in texts]
    return Rollout(prompts, [[0]] * len(texts), ids, logprobs, texts, [None] * len(texts), [finished] * len(texts))


class Speaker:
    """A peer that says its name and how many peers it saw; a character is a token."""

    format = FORMAT

    def __init__(self, name, room=1000, finished=True):
        self.name, self.prompt_room, self.finished = name, room, finished
        self.seen, self.calls = [], []

    def answer(self, prompts, greedy):
        self.seen += [prompt[-1]["content"] for prompt in prompts]
        self.calls.append((len(prompts), greedy))
        texts = [f" {self.name} says #### {p[-1]['content'].count('|')}" for p in prompts]
        return a_rollout(prompts, texts, self.finished, [[-1.0]] * len(texts))

    def count_tokens(self, prompt):
        return len(prompt[-1]["content"])

    def keep_last_tokens(self, text, drop):
        return text[drop:]


def request(prompts=("2+2?",), orders=None, **fields):
    """What peers that speak in turn are asked; `fields` replace those of the request."""
    return RolloutRequest(
        **{
            "prompts": [chat(text) for text in prompts],
            "orders": orders or [(0, 1, 2)] * len(prompts),
            "build_prompt": lambda prompt, previous: show_peers(prompt, previous, "|{text}"),
            "extract_answer": lambda text: find_answer(text, style="hash"),
            "sequential": True,
            "peer_context": "answers",
            "answer_template": "= {answer}",
            "parse_truncated": False,
        }
        | fields
    )


def speakers(names="abc", **fields):
    """A speaker of each name."""
    return [Speaker(name, **fields) for name in names]
