"""Packets of the T.140 corpus, on either Python: ``WISP_CORPORA`` names the folder of the corpora."""

import json
import os
import unittest

from sipwire.errors import ParseError
from sipwire.rtp import parse
from sipwire.text import TextReceiver
from support import unhex


def packets(kind):
    with open(os.getenv("WISP_CORPORA") + "/t140/packets.json") as file:  # noqa: PTH123
        return json.load(file)[kind]


def receive(receiver, packet):
    """What one packet, the first of its stream, gives."""
    _, _, _, start, end, _ = parse(packet, len(packet))
    return receiver.receive(packet, start, end, 0)


class CorpusTest(unittest.TestCase):
    def test_figures(self):
        texts = 0
        for case in packets("figures"):
            packet = unhex(case["hex"])
            if "primary" not in case:  # RFC 2198's own: speech, and no text
                self.assertRaises(ParseError, receive, TextReceiver(5, 121), packet)
                continue
            kind = case.get("pt") or packet[1] & 0x7F
            self.assertEqual(packet[1] & 0x7F, kind)
            is_red = case.get("redundant")
            t140 = case.get("t140_pt") or (98 if is_red else kind)
            before = [unhex(one["hex"]).decode() if "hex" in one else one["text"] for one in is_red or ()]
            found = receive(TextReceiver(t140, kind if is_red else -1), packet)
            self.assertEqual([text for _, text in found], ["".join(before) + case["primary"]], case["name"])
            self.assertEqual([source for source, _ in found], [packet[8:12]])
            texts += 1
        self.assertEqual(texts, 6)

    def test_malformed(self):
        """Dropped, or what is no UTF-8 in it is marked; what comes after is taken."""
        dropped = 0
        for case in packets("malformed"):
            packet = unhex(case["hex"])
            receiver = TextReceiver(98, 100)
            try:
                found = receive(receiver, packet)
            except ParseError:
                dropped += 1
            else:
                self.assertEqual([text for _, text in found], ["\ufffdx"], case["name"])
            good = bytearray(unhex("806200020000012c11223344") + b"good")
            self.assertEqual(receive(receiver, good)[0][1], "good")
        self.assertEqual(dropped, 4)


if __name__ == "__main__":
    unittest.main()
