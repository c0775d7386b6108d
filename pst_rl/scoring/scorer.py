"""What schemes may ask the peers' current policies: log-probabilities of texts, and statistics of sampled tokens.

Every process holds the same group and asks the same questions in the same order; each scores its share, and all get
all answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object

from pst_rl.peers.prompts import Prompt, foreign_prompt
from pst_rl.peers.reader import Reader
from pst_rl.records import Query, Rollout, Score, TokenStatistics
from pst_rl.scoring.logprobs import sum_logprobs, token_statistics

if TYPE_CHECKING:
    from pst_rl.peers.peer_trainer import PeerTrainer
    from pst_rl.scoring.juror import Juror


class Scorer:
    """Answers `Query`s about one generation batch. What was scored once is remembered until the batch is over.

    Args:
        engines: The peers.
        prompts: The Q questions of the complete batch.
        rollouts: This process's rollouts, one per peer.
        chains: G, responses per question.
        build_prompt: Hook `(prompt, shown_texts) -> prompt`.
        batch_size: Rows per forward pass.
    """

    def __init__(
        self,
        engines: Sequence[PeerTrainer],
        prompts: Sequence[Prompt],
        rollouts: Sequence[Rollout],
        chains: int,
        build_prompt: Callable[[Prompt, list[str]], Prompt],
        batch_size: int,
    ):
        self.engines = engines
        self.prompts = prompts
        self.rollouts = rollouts
        self.chains = chains
        self.build_prompt = build_prompt
        self.batch_size = batch_size
        self._judges: dict[int, PeerTrainer | Juror] = {}  # kept, so that no later judge can have the id of an old one
        self._known: dict[tuple[int, Query], Score] = {}
        self._statistics: TokenStatistics | None = None

    def logprobs(self, judge: int | Juror, queries: Sequence[Query]) -> list[Score]:
        """Scores of the queries under a peer (by index) or under an outside juror, in order.

        Raises:
            ValueError: A target without any token.
        """
        engine = self.engines[judge] if isinstance(judge, int) else judge
        self._judges[id(engine)] = engine
        new = list(dict.fromkeys(q for q in queries if (id(engine), q) not in self._known))
        process, world = self.engines[0].accelerator.process_index, self.engines[0].accelerator.num_processes
        mine = new[process::world]
        pairs = [self._tokenise(engine, query) for query in mine]
        sums = sum_logprobs(engine, pairs, self.batch_size)
        scores = [Score(total, len(target)) for total, (_, target) in zip(sums, pairs, strict=True)]
        for query, score in gather_object(list(zip(mine, scores, strict=True))):
            self._known[id(engine), query] = score
        return [self._known[id(engine), query] for query in queries]

    def statistics(self) -> TokenStatistics:
        """Statistics of every sample's own tokens; one forward pass per sample, made once a batch."""
        if self._statistics is None:
            local = []
            for engine, rollout in zip(self.engines, self.rollouts, strict=True):
                pairs = list(zip(rollout.prompt_ids, rollout.completion_ids, strict=True))
                local.append(token_statistics(engine, pairs, self.batch_size))
            rows = gather_object([list(row) for row in zip(*local, strict=True)])  # [row][peer] -> 3 means
            table = torch.tensor(rows, dtype=torch.float32)  # (Q G, P, 3)
            shaped = table.view(len(self.prompts), self.chains, len(self.engines), 3).permute(3, 2, 0, 1)
            self._statistics = TokenStatistics(*shaped.contiguous())
        return self._statistics

    def _tokenise(self, engine: Reader, query: Query) -> tuple[list[int], list[int]]:
        prompt = self.prompts[query.question]
        context = engine.prompt_ids(foreign_prompt(engine.format, self.build_prompt, prompt, query.shown))
        context += engine.text_ids(query.given) if query.given else []
        target = engine.text_ids(query.target) + ([engine.end_of_turn] if query.whole else [])
        if not target:
            raise ValueError(f"The text {query.target!r} has no token to score.")
        return context, target
