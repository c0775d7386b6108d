r"""The tags by which a response parts its thoughts, and its answer, from the rest: one list for all who know them.

>>> [bool(TAG.fullmatch(text)) for text in ("<think>", "</answer>", "[THINK]", "◁/think▷", "<|end_of_thought|>")]
[True, True, True, True, True]
>>> [bool(TAG.fullmatch(text)) for text in ("<|im_end|>", "[INST]", "<s>", "<tool_call>")]
[False, False, False, False]
"""

import re

THOUGHT = r"(?:think(?:ing)?|thoughts?|reasoning|scratchpad|analysis|seed:think)"
ANSWER = r"(?:(?:final[_ -]?)?answer|ans|final|solution|output)"

TAGS = (
    rf"(?:</?[ ]?(?:{THOUGHT}|{ANSWER})[ ]?>|\[/?(?:THINK(?:ING)?|(?:FINAL[_ ])?ANSWER)\]|◁/?think▷"
    r"|<\|(?:begin|end)_of_(?:thought|answer|solution)\|>)"
)
TAG = re.compile(TAGS, re.IGNORECASE)
