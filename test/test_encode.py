"""Fewer bytes, the same pixels: PNG and Autoware's run lengths."""

import struct

import cv2
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest

from seg_node.image import encode


def autoware_decoder(data, rows, columns):
    """
    Read run lengths as Autoware does: 5 bytes each, writing on and on over row ends.

    Its bound check stands behind the writing, so the runs must add up to the picture exactly.
    """
    mask, at = np.zeros(rows * columns, np.uint8), 0
    assert len(data) % 5 == 0
    for start in range(0, len(data), 5):
        value, length = struct.unpack('<Bi', data[start:start + 5])
        assert length > 0
        mask[at:at + length] = value
        at += length
    assert at == rows * columns
    return mask.reshape(rows, columns)


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 13)),
              elements=st.sampled_from([0, 1, 9, 255])))
def test_run_lengths_are_read_back(mask):
    data = encode.run_lengths(mask)
    np.testing.assert_array_equal(autoware_decoder(data, *mask.shape), mask)
    flat = mask.reshape(-1)
    assert len(data) == 5 * (1 + np.count_nonzero(flat[1:] != flat[:-1]))


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_png_loses_nothing(mask):
    read = cv2.imdecode(encode.png(mask), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, mask)


def test_png_of_a_street_is_small():
    small = np.random.default_rng(1).integers(0, 11, (24, 40), np.uint8)
    mask = small.repeat(30, axis=0).repeat(32, axis=1)
    assert len(encode.png(mask)) < mask.size / 40


def test_jpeg_is_a_picture():
    image = np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8)
    image = cv2.resize(image, (160, 120), interpolation=cv2.INTER_CUBIC)
    read = cv2.imdecode(encode.jpeg(image), cv2.IMREAD_COLOR)
    assert np.abs(read.astype(int) - image).mean() < 4


@pytest.mark.parametrize('shape', [(1, 1), (1, 300000), (7, 1)])
def test_one_run_where_all_is_one_class(shape):
    assert encode.run_lengths(np.full(shape, 9, np.uint8)) == struct.pack(
        '<Bi', 9, shape[0] * shape[1])
