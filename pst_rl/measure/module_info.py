"""What the `evaluate` modules that read final answers have in common."""

import datasets
import evaluate


def answers_info(description: str, inputs: str, samples: bool) -> evaluate.MetricInfo:
    """The description of a module that compares texts with gold, one text or a list of texts for each question.

    Args:
        description, inputs: Shown to the user.
        samples: Whether a prediction is the list of a question's samples, instead of one text.
    """
    text = datasets.Value("string")
    predictions = datasets.Sequence(text) if samples else text
    golds = (datasets.Sequence(text), text)  # several solutions, or one
    return evaluate.MetricInfo(
        description=description,
        citation="",
        inputs_description=inputs,
        features=[datasets.Features({"predictions": predictions, "references": gold}) for gold in golds],
    )
