"""RTCP of the terminal's media (RFC 3550 section 6), as SRTCP and plain, both ways."""

import random
import sys
import unittest

from far import CM32, CM80, KEYS, FarMedia
from streamed import (
    FAR,
    FRAME_MS,
    OUR_TEXT,
    OURS,
    PORT,
    TEXT_PORT,
    THEIR_TEXT,
    THEIRS,
    Case,
    FarReports,
    FarText,
    plain,
    speech,
    text,
)

from sipwire import rtcp
from sipwire.errors import SecurityError
from terminal import demand

RTCP_PORT = PORT + 1
OTHER = 0x11223344  # an SSRC


class ReportCase(Case):
    def begin(self, **changes):
        changes.setdefault("rtcp_port", RTCP_PORT)
        self.start(speech(**changes))
        self.reports = FarReports()

    def speak(self, ms):
        """The far end speaks for so long."""
        for _ in range(ms // FRAME_MS):
            self.receive(0, self.far.packet())
            self.run_for(FRAME_MS)

    def opened(self, at=1):
        """What the terminal reports: (when, `Report`)."""
        return [(when, self.reports.open(datagram)) for when, datagram, _ in self.sent(at)]

    def report(self):
        """The one report that comes next."""
        self.sent(1)
        self.next_report()
        [(_, report)] = self.opened()
        return report

    def statistics(self):
        return self.media.stop()


class OurTest(ReportCase):
    def test_when(self):
        """Section 6.2: the first after half of 5 s, later ones after 5 s, each between a half and 1.5 times as long."""
        firsts, laters = [], []
        for _ in range(10):
            self.begin(direction=b"recvonly")
            start = self.now
            self.run_for(30000)
            times = [when for when, _, _ in self.sent(1)]
            firsts.append(times[0] - start)
            laters += [times[i + 1] - times[i] for i in range(len(times) - 1)]
            self.media.stop()
        self.assertTrue(min(firsts) >= 1000 and max(firsts) <= 3100, firsts)
        self.assertTrue(min(laters) >= 2000 and max(laters) <= 6200, laters)
        self.assertGreater(len(set(firsts)), 5)
        self.assertGreater(len(set(laters)), len(laters) // 2)

    def test_where(self):
        """On the port behind that of RTP, where a=rtcp says, with RTP (RFC 5761), or nowhere."""
        for rtcp_port, at, target in (
            (RTCP_PORT, 1, (FAR, RTCP_PORT)),
            (40077, 1, (FAR, 40077)),
            (PORT, 0, (FAR, PORT)),
            (0, None, None),
        ):
            self.begin(rtcp_port=rtcp_port, direction=b"inactive")
            self.next_report()
            sent = [(i, address) for i in range(4) for _, _, address in self.sent(i)]
            self.assertEqual(sent, [] if at is None else [(at, target)])
            self.media.stop()

    def test_of_text(self):
        """From its own sockets, under its own key."""
        for rtcp_port, at in ((TEXT_PORT + 1, 3), (TEXT_PORT, 2)):
            self.start(speech(rtcp_port=RTCP_PORT), text(rtcp_port=rtcp_port, direction=b"inactive"))
            self.next_report()
            [(_, datagram, address)] = self.sent(at)
            self.assertEqual(address, (FAR, rtcp_port))
            report = FarReports(OUR_TEXT).open(datagram)
            self.assertEqual(report.ssrc, self.stream(b"text").ssrc)
            self.assertRaises(SecurityError, FarReports(OURS).open, datagram)
            self.assertEqual(len(self.sent(1)), 1)
            self.media.stop()

    def test_content(self):
        """An SR: who we are, what was sent, and what came of the far end's."""
        self.begin()
        self.far.seq = 0xFFF0  # its numbers wrap meanwhile
        self.speak(600)
        self.far.packet()
        self.far.packet()
        self.speak(380)
        report = self.report()
        packets = [self.far.open(datagram) for _, datagram, _ in self.sent(0)]
        self.assertEqual(report.kinds, [rtcp.SR, rtcp.SDES])
        self.assertEqual((report.ssrc, report.left), (packets[0][3], []))
        self.assertEqual((report.info[3], report.info[4]), (len(packets), 160 * len(packets)))
        self.assertTrue(self.now - 1 <= report.ntp <= self.now, report.ntp)
        behind = report.info[2] - packets[-1][2] & 0xFFFFFFFF  # the RTP time of now
        self.assertTrue(0 <= behind <= 320, behind)
        [(ssrc, fraction, lost, highest, jitter, last, _)] = report.blocks
        self.assertEqual((ssrc, lost, fraction), (self.far.ssrc, 2, 2 * 256 // 51))
        self.assertEqual(highest, 0x10000 + ((self.far.seq - 1) & 0xFFFF))
        self.assertEqual(last, 0)  # no SR has come
        self.assertLess(jitter, 20 * 8)
        self.assertTrue(18 <= len(report.cname) <= 24)  # hex digits, without zeros at its head

    def test_fraction_is_of_the_last_interval(self):
        self.begin()
        self.speak(400)
        self.far.packet()
        self.speak(400)
        first = self.report().blocks[0]
        self.speak(200)
        second = self.report().blocks[0]
        self.assertEqual((first[1], first[2]), (256 // 41, 1))
        self.assertEqual((second[1], second[2]), (0, 1))

    def test_sr_is_told_back(self):
        """LSR and DLSR (section 6.4.1): of when it came, not of when it was read."""
        self.begin()
        self.speak(100)
        sr = self.reports.packet(sent=(5, 800, 12345), now=77250)
        self.receive(1, sr)
        came = self.now
        report = self.report()
        last, delay = report.blocks[0][5:]
        self.assertEqual(last, (77 << 16) + 0x4000)
        self.assertTrue(abs(delay - (self.now - came) * 65536 // 1000) <= 66, delay)
        later = self.report().blocks[0]
        self.assertEqual(later[5], last)
        self.assertTrue(abs(later[6] - (self.now - came) * 65536 // 1000) <= 66)

    def test_jitter(self):
        """Packets that come 10 ms late and in time by turns: J goes towards 10 ms, which are 80 units."""
        self.begin()
        for i in range(100):
            packet = self.far.packet()
            self.run_for(10 if i & 1 else 0)
            self.receive(0, packet)
            self.run_for(10 if i & 1 else 20)
        jitter = self.report().blocks[0][4]
        self.assertTrue(70 <= jitter <= 80, jitter)

    def test_who_has_sent_nothing_reports_as_a_receiver(self):
        self.begin(direction=b"recvonly")
        self.speak(200)
        report = self.report()
        self.assertEqual(report.kinds, [rtcp.RR, rtcp.SDES])
        self.assertEqual((report.ssrc, report.blocks[0][0]), (self.stream().ssrc, self.far.ssrc))
        self.media.stop()
        self.begin(direction=b"sendonly")
        report = self.report()
        self.assertEqual((report.kinds[0], report.blocks), (rtcp.SR, []))
        self.run_for(20)
        self.media.start([speech(direction=b"inactive", rtcp_port=RTCP_PORT)], self.now)
        self.assertEqual([self.report().kinds[0] for _ in range(3)], [rtcp.SR, rtcp.RR, rtcp.RR])

    def test_cname(self):
        """RFC 7022 section 4.2: the same for all streams of a call, and another one in the next."""
        seen = []
        for _ in range(5):
            self.start(speech(rtcp_port=RTCP_PORT, direction=b"inactive"), text(rtcp_port=TEXT_PORT + 1))
            self.reports = FarReports()
            names = {self.report().cname, self.report().cname}
            names |= {FarReports(OUR_TEXT).open(datagram).cname for _, datagram, _ in self.sent(3)}
            self.assertEqual(len(names), 1)
            seen += names
            self.media.stop()
        self.assertEqual(len(set(seen)), 5)
        for name in seen:
            self.assertTrue(name.isdigit() or name.strip(b"0123456789abcdef") == b"")

    def test_not_before_the_peer_has_our_keys(self):
        self.start(speech(rtcp_port=RTCP_PORT), text(rtcp_port=TEXT_PORT + 1), go=False)
        self.reports = FarReports()
        self.receive(1, self.reports.packet())
        self.run_for(20000)
        self.media.quiet(self.now)
        self.assertEqual([self.sent(at) for at in range(4)], [[], [], [], []])
        self.media.stop()
        self.start(speech(rtcp_port=RTCP_PORT), go=False)
        self.far = FarMedia(OURS)
        self.speak(20)  # who speaks has them
        self.run_for(4000)
        self.assertGreater(len(self.opened()), 0)

    def test_goodbye(self):
        """Of each stream, when we hang up; where the far end has done so, nobody is there to hear it."""
        for mux in (False, True):
            at = 0 if mux else 1
            self.start(
                speech(rtcp_port=PORT if mux else RTCP_PORT), text(rtcp_port=TEXT_PORT if mux else TEXT_PORT + 1)
            )
            self.reports = FarReports()
            self.run_for(500)
            ssrcs = self.stream().ssrc, self.stream(b"text").ssrc
            for i in range(4):
                self.sent(i)
            self.media.quiet(self.now)
            [(_, report)] = self.opened(at)
            self.assertEqual((report.ssrc, report.left), (ssrcs[0], [ssrcs[0]]))
            [(_, datagram, _)] = self.sent(at + 2)
            report = FarReports(OUR_TEXT).open(datagram)
            self.assertEqual((report.ssrc, report.left), (ssrcs[1], [ssrcs[1]]))
            self.media.stop()
            self.run_for(20000)
            self.assertEqual([self.sent(i) for i in range(4)], [[], [], [], []])
        self.begin()
        self.run_for(500)
        self.media.quiet()
        self.assertEqual(self.sent(1), [])

    def test_goodbye_without_memory(self):
        """The call ends all the same, and what there was is not told."""
        self.begin()
        self.run_for(500)

        def out_of_memory(name):
            raise MemoryError("as told")

        demand.__import__ = out_of_memory
        try:
            self.media.quiet(self.now)
        finally:
            del demand.__import__
        self.assertEqual(self.sent(1), [])
        self.assertEqual((self.statistics(), self.media.parts, self.media.timer_at), ({}, {}, None))

    def test_to_nowhere(self):
        """Nothing goes to 0.0.0.0 (RFC 3264 section 8.4), which is this very host in places."""
        one = speech(rtcp_port=RTCP_PORT, direction=b"recvonly")
        one.address = b"0.0.0.0"
        self.start(one)
        self.run_for(10000)
        self.assertEqual(self.sent(1), [])

    def test_times_of_text(self):
        """The RTP timestamp is that of the NTP time beside it, also when nothing is typed."""
        self.start(text(rtcp_port=TEXT_PORT + 1))
        far, reports = FarText(), FarReports(OUR_TEXT, THEIR_TEXT)
        self.media.write("hi", self.now)
        self.run_for(900)
        for when, datagram, _ in self.sent(2):
            packet = bytearray(datagram)
            far.receiver.unprotect(packet, len(packet))
            first = int.from_bytes(packet[4:8], "big") - when
        self.sent(3)
        self.next_report()
        infos = [(when, reports.open(datagram).info) for when, datagram, _ in self.sent(3)]
        self.assertEqual([info[2] for _, info in infos], [first + when & 0xFFFFFFFF for when, _ in infos])

    def test_counts_of_a_new_source(self):
        """With another SSRC packets and octets count anew (section 6.4.1)."""
        self.begin()
        self.run_for(4000)
        self.sent(0)
        self.begin(ours=KEYS[CM32])
        self.sent(1)
        self.next_report()
        [(_, datagram, _)] = self.sent(1)
        count = len(self.sent(0))
        info = FarReports(KEYS[CM32]).open(datagram).info
        self.assertEqual(info[3:], (count, 160 * count))

    def test_suites(self):
        """SRTCP's tag has 10 bytes also where SRTP's has 4 (RFC 4568 section 6.2)."""
        for suite in (CM80, CM32):
            self.begin(suite=suite)
            self.reports = FarReports(suite=suite)
            clear = self.report()
            self.next_report()
            [(_, datagram, _)] = self.sent(1)
            chunk = (4 + 2 + len(clear.cname)) // 4 * 4 + 4
            self.assertEqual(len(datagram), 28 + 4 + chunk + 4 + 10)
            self.assertNotIn(clear.cname, datagram)
            self.media.stop()

    def test_plain(self):
        self.start(plain(speech(rtcp_port=RTCP_PORT)))
        self.reports = FarReports(suite=b"")
        self.receive(0, bytes(self.far.rtp(bytes(160)))[:172])
        report = self.report()
        self.assertEqual((report.kinds, report.blocks[0][0]), ([rtcp.SR, rtcp.SDES], self.far.ssrc))
        self.media.quiet(self.now)
        [(_, report)] = self.opened()
        self.assertEqual(report.left, [report.ssrc])

    def test_the_code_is_gone_when_it_is_done(self):
        self.begin()
        self.next_report()
        self.assertFalse("terminal.reports" in sys.modules)

    def test_time_for_another_key(self):
        """Told while there is a minute left; none is wanted before."""
        self.begin()
        self.run_for(20000)
        self.assertEqual(self.renewals, 0)
        sender = self.stream().sender
        sender._end = self.stream().seq - 1 + 2999
        sender._look = True
        self.next_report()
        self.assertEqual(self.renewals, 1)


class TheirTest(ReportCase):
    """What the far end reports."""

    def test_statistics(self):
        """far_lost, far_jitter_ms and round_trip_ms, once it has told."""
        self.begin()
        self.report()
        self.assertEqual([name for name in self.statistics() if name[:3] in ("far", "rou")], [])
        self.begin()
        ssrc = self.stream().ssrc
        found = self.report()
        middle = found.ntp // 1000 << 16 | (found.ntp % 1000 << 16) // 1000
        self.receive(1, self.reports.packet((OTHER, 9, 99, 9, 999, 0, 0)))  # of somebody else
        self.run_for(460)
        self.receive(1, self.reports.packet((OTHER, 9, 99, 9, 999, 0, 0), (ssrc, 12, 7, 5, 83, middle, 26214)))
        self.receive(1, self.reports.packet((OTHER, 9, 99, 9, 999, 0, 0)))
        self.next_report()
        found = self.statistics()
        self.assertEqual((found["far_lost"], found["far_jitter_ms"], found["rejected"]), (7, 10, 0))
        self.assertTrue(58 <= found["round_trip_ms"] <= 62, found)  # 460 ms less the 400 that it lay there

    def test_stun_takes_no_place(self):
        """Some phones look for the best way with STUN (RFC 5389) on all their ports, whatever was agreed on."""
        self.begin()
        ssrc = self.stream().ssrc
        stun = b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12)
        self.receive(1, stun, stun, stun, stun, self.reports.packet((ssrc, 12, 7, 5, 83, 0, 0)))
        self.next_report()
        found = self.statistics()
        self.assertEqual((found["far_lost"], found["rejected"]), (7, 4))

    def test_more_came_than_was_lost(self):
        """The loss is signed (section 6.4.1), and without LSR there is no round trip."""
        self.begin()
        self.receive(1, self.reports.packet((self.stream().ssrc, 0, -3, 5, 0, 0, 0)))
        self.next_report()
        found = self.statistics()
        self.assertEqual((found["far_lost"], found["far_jitter_ms"], "round_trip_ms" in found), (-3, 0, False))

    def test_is_read_at_the_end_of_a_call(self):
        self.begin()
        self.receive(1, self.reports.packet((self.stream().ssrc, 0, 5, 5, 0, 0, 0)))
        self.media.quiet(self.now)
        self.assertEqual(self.statistics()["far_lost"], 5)

    def test_with_rtp(self):
        """RFC 5761: on the port of RTP, told apart by the second byte."""
        for agreed, reports in (
            (speech(rtcp_port=PORT), FarReports()),
            (plain(speech(rtcp_port=PORT)), FarReports(suite=b"")),
        ):
            self.start(agreed)
            self.receive(0, reports.packet((self.stream().ssrc, 0, 5, 5, 0, 0, 0)), source=(FAR, PORT))
            self.next_report()
            found = self.statistics()
            self.assertEqual((found["far_lost"], found["received"], found["rejected"]), (5, 0, 0))

    def test_on_the_port_of_rtp_without_agreement(self):
        """It is no RTP under SRTP's key then."""
        self.begin()
        self.receive(0, self.reports.packet((self.stream().ssrc, 0, 5, 5, 0, 0, 0)))
        self.next_report()
        found = self.statistics()
        self.assertEqual((found["rejected"], "far_lost" in found), (1, False))

    def test_goodbye_lets_another_source_follow(self):
        """Under the same key, and none of the past comes back."""
        self.begin()
        first, second, third = self.far, FarMedia(OURS, ssrc=OTHER, seq=9), FarMedia(OURS, ssrc=7, seq=9)
        self.receive(0, first.packet(), second.packet())
        self.assertEqual((self.stream().received, self.stream().rejected), (1, 1))
        self.receive(1, self.reports.packet(bye=True))
        self.next_report()
        self.receive(0, second.packet(), third.packet(), first.packet(), second.packet())
        self.assertEqual((self.stream().received, self.stream().rejected), (3, 3))
        self.assertEqual(self.report().blocks[0][0], OTHER)

    def test_report_of_another_source_lets_it_follow(self):
        """One that has the key."""
        for key, received in ((THEIRS, 2), (KEYS[CM32], 1)):
            self.begin()
            self.far = FarMedia(OURS)
            self.receive(0, self.far.packet())
            self.receive(1, FarReports(theirs=key, ssrc=OTHER).packet())
            self.next_report()
            self.receive(0, FarMedia(OURS, ssrc=OTHER).packet())
            self.assertEqual(self.statistics()["received"], received)

    def test_report_of_the_same_source_changes_nothing(self):
        """Whatever else came meanwhile and failed."""
        self.begin()
        self.receive(0, self.far.packet(), bytes(self.far.rtp(bytes(170)))[:182].replace(b"\xfe\xdc", b"\0\0"))
        self.receive(1, self.reports.packet())
        self.next_report()
        self.receive(0, FarMedia(OURS, ssrc=OTHER).packet())
        self.assertEqual(self.statistics()["received"], 1)

    def test_a_forged_packet_changes_no_report(self):
        """What was heard is reported of who was heard, not of who has forged a packet since."""
        self.begin()
        self.receive(0, self.far.packet())
        self.receive(0, b"\x80" + bytes(181))
        self.assertEqual([one[0] for one in self.report().blocks], [self.far.ssrc])

    def test_collision(self):
        """Section 8.2: BYE for the SSRC that another has too, and a new one, whose packets count anew."""
        for how in ("report", "description"):
            self.begin()
            self.run_for(500)
            old, seq = self.stream().ssrc, self.stream().seq
            if how == "report":
                self.receive(1, FarReports(ssrc=old).packet())
            else:
                chunk = b"\x81\xca\0\2" + old.to_bytes(4, "big") + bytes(4)
                self.receive(1, self.reports.protected(b"\x80\xc9\0\1" + bytes(4) + chunk))
            self.sent(0)
            self.next_report()
            [(_, report)] = self.opened()
            self.assertEqual((report.ssrc, report.left), (old, [old]))
            self.sent(0)
            self.run_for(200)
            fresh = FarMedia(OURS)
            packets = [fresh.open(datagram) for _, datagram, _ in self.sent(0)]
            self.assertEqual(len(packets), 10)
            self.assertEqual(set([packet[3] for packet in packets]), set([self.stream().ssrc]))
            self.assertNotEqual(self.stream().ssrc, old)
            self.assertNotEqual(packets[0][1], seq)
            self.reports = FarReports()
            report = self.report()
            self.assertEqual((report.ssrc, report.left), (self.stream().ssrc, []))
            self.assertEqual(self.statistics()["rejected"], 0)

    def test_collision_in_speech(self):
        self.begin()
        old = self.stream().ssrc
        self.receive(0, FarMedia(OURS, ssrc=old).packet())
        self.next_report()
        self.assertNotEqual(self.stream().ssrc, old)
        [(_, report)] = self.opened()
        self.assertEqual(report.left, [old])

    def test_collision_keeps_the_end_of_the_key(self):
        """Another SSRC under it is no fresh key."""
        self.begin()
        stream = self.stream()
        self.run_for(100)
        stream.sender._end = stream.sender._last_seq + 500
        stream.sender._look = True
        self.receive(1, FarReports(ssrc=stream.ssrc).packet())
        self.next_report()
        left = stream.sender.left()
        self.assertTrue(300 < left < 500, left)

    def test_collision_without_srtp(self):
        self.start(plain(speech(rtcp_port=RTCP_PORT)))
        old = self.stream().ssrc
        self.receive(1, FarReports(suite=b"", ssrc=old).packet())
        self.next_report()
        [(_, datagram, _)] = self.sent(1)
        self.assertEqual(FarReports(suite=b"").open(datagram).left, [old])
        self.assertNotEqual(self.stream().ssrc, old)


class AttackTest(ReportCase):
    """Reports that fail a check: counted, and nothing else."""

    def assertRejected(self, count):
        """So many are, none tells anything, nobody else may send, and ours go on."""
        ssrc = self.stream().ssrc
        self.assertEqual(self.report().ssrc, ssrc)
        self.receive(0, FarMedia(OURS, ssrc=OTHER).packet())
        found = self.statistics()
        self.assertEqual((found["rejected"], found["received"]), (count + 1, 1))
        self.assertFalse("far_lost" in found or "round_trip_ms" in found, found)

    def attack(self, *datagrams):
        """Three at a time come until ours are due."""
        self.begin(direction=b"recvonly")
        self.far = FarMedia(OURS)
        self.receive(0, self.far.packet())
        for at in range(0, len(datagrams), 3):
            self.receive(1, *datagrams[at : at + 3])
            if at + 3 < len(datagrams):
                self.next_report()
        self.assertRejected(len(datagrams))

    def evil(self, **options):
        """A report that would change all that a report can change."""
        self.begin()
        ssrc = self.stream().ssrc
        self.media.stop()
        options.setdefault("ssrc", ssrc)
        return FarReports(**options).packet((ssrc, 1, 1, 1, 80, 1, 1), sent=(1, 1, 1), bye=True)

    def test_forged(self):
        good = self.evil(ssrc=OTHER)
        self.attack(
            self.evil(suite=b""),  # without SRTCP
            self.evil(suite=b"") + bytes(14),
            self.evil(theirs=KEYS[CM32]),
            self.evil(theirs=OURS),  # our own come back
            good + b"\0",
            bytes(100),
            b"",
            b"\x80\xc8",
            b"x" * 399,
            good[:-10] + bytes(10),
        )

    def test_truncated(self):
        good = self.evil(ssrc=OTHER)
        self.attack(*[good[:size] for size in range(0, len(good), 5)])

    def test_flipped(self):
        good = self.evil(ssrc=OTHER)
        random.seed(9)
        flips = [random.randrange(8 * len(good)) for _ in range(60)]
        self.attack(*[good[: n >> 3] + bytes([good[n >> 3] ^ 1 << (n & 7)]) + good[(n >> 3) + 1 :] for n in flips])

    def test_not_encrypted(self):
        """Authentic, and without the E bit: that was not agreed on (UNENCRYPTED_SRTCP)."""
        reports = FarReports(ssrc=OTHER)
        reports.sender.flag = 0
        self.attack(reports.packet(bye=True))

    def test_malformed(self):
        """From who has the key, and no RTCP all the same."""
        reports = FarReports(ssrc=OTHER)
        ssrc = OTHER.to_bytes(4, "big")
        self.attack(
            reports.protected(b"\x81\xcb\0\1" + ssrc),  # BYE comes first
            reports.protected(b"\x80\xc9\0\2" + ssrc),  # longer than it is
            reports.protected(b"\x81\xc9\0\1" + ssrc),  # a block that is not there
            reports.protected(b"\x40\xc9\0\1" + ssrc),
            reports.protected(b"\x80\xc9\0\1" + ssrc + b"\x81\xcb\0\0"),
        )

    def test_replayed(self):
        self.begin()
        self.receive(0, self.far.packet())
        recorded = [self.reports.packet() for _ in range(3)]
        self.receive(1, recorded[0], recorded[0], recorded[2])
        self.next_report()
        self.receive(1, *recorded)
        self.next_report()  # of these the second is fresh
        self.receive(1, *recorded)
        self.assertEqual(self.stream().rejected, 3)
        self.assertRejected(6)

    def test_flood(self):
        """No memory is given to it, and what was heard before stands."""
        self.begin()
        self.receive(0, self.far.packet())
        self.receive(1, self.reports.packet((self.stream().ssrc, 0, 5, 5, 0, 0, 0)))
        for i in range(3000):
            self.receive(1, bytes([0x80, 0xC8, i & 0xFF, i >> 8]) + bytes(90))
        self.assertEqual(len(self.stream().heard), 3)
        self.run_for(1000)
        self.next_report()
        found = self.statistics()
        self.assertEqual((found["rejected"], found["far_lost"], found["received"]), (3000, 5, 1))

    def test_forged_ones_keep_no_goodbye_away(self):
        """Of somebody off the way, who does not know who speaks: whoever follows is heard."""
        self.begin()
        self.receive(0, self.far.packet())
        junk = b"\x80\xc9" + bytes(30)
        self.receive(1, junk, junk, junk, source=(b"203.0.113.66", 1))
        self.receive(1, FarReports(ssrc=self.far.ssrc).packet(bye=True))
        self.next_report()
        self.receive(0, FarMedia(OURS, ssrc=OTHER).packet())
        self.assertEqual(self.stream().received, 2)

    def test_of_another_key(self):
        """After a change of keys the ones before count for nothing."""
        self.begin()
        self.receive(1, self.reports.packet())
        self.next_report()
        self.media.start([speech(theirs=KEYS[CM32], rtcp_port=RTCP_PORT)], self.now)
        ssrc = self.stream().ssrc
        self.receive(1, self.reports.packet((ssrc, 0, 5, 5, 0, 0, 0)))
        self.receive(1, FarReports(theirs=KEYS[CM32]).packet((ssrc, 0, 6, 5, 0, 0, 0)))
        self.next_report()
        found = self.statistics()
        self.assertEqual((found["rejected"], found["far_lost"]), (1, 6))

    def test_of_a_key_that_comes_back(self):
        """What was recorded under it does not count twice."""
        self.begin()
        recorded = self.reports.packet((self.stream().ssrc, 0, 5, 5, 0, 0, 0))
        self.receive(1, recorded)
        self.next_report()
        for theirs in (KEYS[CM32], THEIRS):
            self.media.start([speech(theirs=theirs, rtcp_port=RTCP_PORT)], self.now)
            self.next_report()
        self.receive(1, self.reports.packet((self.stream().ssrc, 0, 6, 5, 0, 0, 0)), recorded)
        self.next_report()
        found = self.statistics()
        self.assertEqual((found["rejected"], found["far_lost"]), (1, 6))

    def test_plain_from_elsewhere(self):
        """RTCP without SRTP counts only from where the far end said it would come from."""
        for rtcp_port, at, right in ((RTCP_PORT, 1, (FAR, RTCP_PORT)), (PORT, 0, (FAR, PORT))):
            self.start(plain(speech(rtcp_port=rtcp_port)))
            reports = FarReports(suite=b"")
            block = (self.stream().ssrc, 0, 5, 5, 0, 0, 0)
            for source in ((FAR, 30003), (b"203.0.113.66", right[1]), (FAR, PORT if at else RTCP_PORT)):
                self.receive(at, reports.packet(block, bye=True), source=source)
            self.next_report()
            self.assertEqual((self.stream().rejected, self.stream().reported[4]), (3, -1))
            self.receive(at, reports.packet(block), source=right)
            self.next_report()
            found = self.statistics()
            self.assertEqual((found["rejected"], found["far_lost"]), (3, 5))


if __name__ == "__main__":
    unittest.main()
