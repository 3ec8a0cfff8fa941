"""How the values of a tensor lie in memory: TensorRT's formats that the kernels take."""

from dataclasses import dataclass

from ..geometry import Size


@dataclass(frozen=True)
class Form:
    """
    One image (channels, height, width), in elements from its first one.

    :ivar vector: channels that lie side by side at each pixel of a plane; 0 = all of them.
    :ivar multiple: there is room for so many channels or a multiple of it.
    """

    vector: int = 1
    multiple: int = 1

    def padded(self, channels: int) -> int:
        """Return the channels that there is room for."""
        return -(-channels // self.multiple) * self.multiple

    def elements(self, channels: int, size: Size) -> int:
        """Return how many there are."""
        return self.padded(channels) * size.pixels

    def pixel(self, channels: int) -> int:
        """Return the elements from a pixel to the next of its row; rows follow at once."""
        return self.vector or self.padded(channels)

    def channel(self, index: int, size: Size) -> int:
        """Return where a channel begins."""
        if not self.vector:
            return index
        return index // self.vector * size.pixels * self.vector + index % self.vector


LINEAR = Form()
#: by TensorRT's names, of a tensor whose axes are NCHW
FORMS = {'LINEAR': LINEAR, 'HWC': Form(0), 'HWC8': Form(0, 8), 'HWC16': Form(0, 16),
         'CHW2': Form(2, 2), 'CHW4': Form(4, 4)}
#: names of the forms that scores may have: of each class at one distance from the next
SCORES = ('LINEAR', 'HWC', 'HWC8', 'HWC16')


def in_memory(layout: str, form: Form) -> Form:
    """Return how a tensor of axes ``layout`` lies in memory, which a linear NHWC tells itself."""
    return FORMS['HWC'] if layout == 'NHWC' else form
