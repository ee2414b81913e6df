import time
import pytest
from calls.conftest import connect, hang_up, make_terminal
from calls.test_changes import starved

@pytest.mark.parametrize("level",["medium","heavy"])
def test_stress(lab, level):
    addresses = lab.make_domains("a.example","b.example")
    paths=[make_terminal(lab,d,u,h,60) for d,u,h in (("a.example","alice",440),("b.example","bob",1000))]
    for d in addresses: lab.change(d, '# level = "medium"', f'level = "{level}"')
    for d in addresses: lab.start_neighbour(d)
    for rnd in range(4):
        alice,bob=[lab.start_terminal(p) for p in paths]
        for o in (alice,bob): o.wait_for("registered",20)
        try:
            for n in range(5):
                connect(alice,bob)
                time.sleep(.3)
                m=len(alice.lines)
                bob.send("hold"); alice.wait_for("hold",since=m,remote=True)
                m=len(alice.lines)
                bob.send("resume"); alice.wait_for("hold",since=m,remote=False)
                m=len(bob.lines); alice.send(f"message {bob.aor} hello there"); bob.wait_for("message",since=m)
                m=len(alice.lines)
                bob.send(f"message {alice.aor} hello there"); alice.wait_for("message",since=m)
                e=hang_up(alice,bob)
        except Exception as x: print(level,rnd,n,"FAILED",str(x)[-1200:])
        alice.read(),bob.read()
        print(level,rnd,n,"starved",starved(alice,bob), lab.heap_kib)
        try: print([[o.status()[k] for k in ("heap_used","heap_peak")] for o in (alice,bob)])
        except Exception as x: print(x)
        for o in (alice,bob): o.stop(); lab.processes.remove(o)
