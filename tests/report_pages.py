"""Reads a page of `pst-rl report` without a browser."""

from html.parser import HTMLParser


class Parsed(HTMLParser):
    """Attributes:
    tags: (tag, attributes) of each, in order.
    data: The JSON that the page carries.
    texts: All texts.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.data, self.texts, self._inside = [], "", [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = dict(attributes).get("id") if tag == "script" else tag

    def handle_data(self, data):
        if self._inside == "data":
            self.data += data
        self.texts.append(data)
