"""A mapper with the state that its changes go into, for tests."""

from control_node import EFFECTS

from stemrack.models.stems import STEMS
from stemrack.rt.control.chain_table import InsertParameters, PossibleTable
from stemrack.rt.control.table import mixer_parameters
from stemrack.rt.midi.binding import Binding
from stemrack.rt.midi.mapping import Mapper

TABLE = PossibleTable(mixer_parameters(STEMS), InsertParameters(EFFECTS))
ROOM, CUTOFF = "stem/vocals/fx/reverb/room_size", "stem/vocals/fx/highpass_filter/cutoff_frequency_hz"
BYPASS = "stem/vocals/fx/reverb/bypass"
GAIN, PAN, MUTE, SOLO = "stem/vocals/gain_db", "stem/vocals/pan", "stem/vocals/mute", "stem/vocals/solo"
BOX = "box out:port"


class Rig:
    """A mapper with the state that its changes go into, as the node does it."""

    def __init__(self, *bindings, ports=(BOX,)):
        self.mapper = Mapper(TABLE, bindings)
        self.values = dict(TABLE.defaults)
        self.sent = list(self.mapper.ports_are(ports, self.values))

    def hear(self, *numbers, port=BOX):
        steps = self.mapper.handle(port, bytes(numbers), self.values)
        for step in steps:
            self.values[step.path] = TABLE[step.path].checked(step.value)
            self.sent += self.mapper.feedback(step.path, step.value)
        return [(step.path, step.value) for step in steps]

    def cc(self, number, value, **kw):
        return self.hear(0xB0, number, value, **kw)

    def other(self, path, value):
        """A change by somebody else; None: the path is gone."""
        self.values[path] = value
        if value is None:
            del self.values[path]
        self.sent += self.mapper.feedback(path, value)

    def take(self):
        sent, self.sent = self.sent, []
        return [(port, message.hex(" ")) for port, message in sent]


def cc7(path=GAIN, number=7, **kw):
    return Binding(path=path, kind="cc7", channel=1, number=number, **kw)


def note(path=MUTE, number=60, **kw):
    return Binding(path=path, kind="note", channel=1, number=number, **kw)
