"""Small builders for the records that travel between the stages."""

from random import Random

from pst_rl.answers import Answer, find_answer
from pst_rl.records import Group, Response, Rollout, Target


def response(answer, text=None, **fields):
    """A finished response with this answer; `None` states none."""
    text = text if text is not None else ("no idea" if answer is None else f"#### {answer}")
    return Response(text, None if answer is None else Answer.of(answer), **{"finished": True, "length": 3} | fields)


def group(answers, **fields):
    """The group of `answers[peer][question][chain]`; entries may be answers, `None`, or whole responses."""
    responses = tuple(
        tuple(tuple(a if isinstance(a, Response) else response(a) for a in chains) for chains in peer)
        for peer in answers
    )
    peers, questions = len(responses), len(responses[0])
    defaults = {
        "peers": tuple("abc"[:peers]),
        "prompts": tuple(f"question {q}" for q in range(questions)),
        "columns": tuple({"question_id": q} for q in range(questions)),
        "order": (tuple(range(peers)),) * questions,
        "rng": Random(0),
    }
    return Group(**defaults | fields, responses=responses)


def targets(answers):
    """The targets of `answers[peer][question][chain]`; `None` abstains."""
    return tuple(
        tuple(tuple(a and Target(Answer.of(a), f" #### {a}", 1.0) for a in chains) for chains in peer)
        for peer in answers
    )


def answers_of(made):
    """The answers of targets, in the same nesting."""
    return [[[t and t.answer.text for t in chains] for chains in peer] for peer in made]


def chat(text):
    return [{"role": "user", "content": text}]


def reader(model, tokenizer, **fields):
    """A model that reads prompts, with what else a test needs of a peer."""
    from pst_rl.peers.reader import PromptReader, end_ids

    found = PromptReader(tokenizer, ends=end_ids(model, tokenizer))
    vars(found).update(model=model, **fields)
    return found


def scripted(engine, prompts, texts, **fields):
    """The rollout of a peer that answered these texts, each ended by its end-of-turn token."""
    return Rollout(
        **{
            "prompts": prompts,
            "prompt_ids": [engine.prompt_ids(prompt) for prompt in prompts],
            "completion_ids": [[*engine.text_ids(text), engine.end_of_turn] for text in texts],
            "logprobs": None,
            "texts": texts,
            "answers": [find_answer(text, style="hash") for text in texts],
            "finished": [True] * len(texts),
        }
        | fields
    )


def logprobs_by_hand(model, context, target):
    """Log-probability of each target token, one row, no padding, full logits."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([[*context, *target]])).logits[0].double()
    steps = range(len(context) - 1, len(context) + len(target) - 1)
    return [logits[i].log_softmax(-1)[token].item() for i, token in zip(steps, target, strict=True)]
