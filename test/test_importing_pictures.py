"""What an importer needs no torch for: the pictures it compares on, and ONNX files."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from seg_node.errors import ConfigError
from seg_node.geometry import Size
from seg_node.model.card import load_card

import_model = pytest.importorskip('importing.import_model')
MODELS = Path(__file__).parent / 'models'
verify = pytest.importorskip('importing.verify')


def grey(level):
    return np.full((32, 48, 3), level, np.uint8)


def test_of_folders_and_files_of_all_kinds_that_replay_reads(tmp_path):
    for n in range(5):
        assert cv2.imwrite(str(tmp_path / f'{n}.bmp'), grey(n * 10))
    (tmp_path / '._0.bmp').write_bytes(b'what macOS leaves about')
    (tmp_path / 'notes.txt').write_text('no picture')
    found = verify.pictures([tmp_path], 3)
    assert [int(image[0, 0, 0]) for image in found] == [0, 10, 20]
    [image] = verify.pictures([tmp_path / '4.bmp'], 3)
    np.testing.assert_array_equal(image, grey(40))


def test_of_a_video_spread_over_its_length(tmp_path):
    av = pytest.importorskip('av', reason='needs PyAV, requirements/video.txt')
    with av.open(str(tmp_path / 'a.mp4'), 'w') as container:
        stream = container.add_stream('mpeg4', rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, 'yuv420p'
        for n in range(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(20 + n * 20), 'bgr24')))
        container.mux(stream.encode())
    found = verify.pictures([tmp_path / 'a.mp4'], 3)
    assert [round(float(image.mean()) / 20) * 20 for image in found] == [20, 80, 140]


def test_refused_by_name(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'no image')
    for place, words in ((tmp_path / 'none', 'there is nothing'),
                         (tmp_path / 'a.jpg', r'a\.jpg \(8 bytes\) is not an image')):
        with pytest.raises(ConfigError, match=words):
            verify.pictures([place], 3)
    (tmp_path / 'a.jpg').rename(tmp_path / 'a.mkv')
    with pytest.raises(ConfigError, match=r'a\.mkv.*(cannot be opened as a video|PyAV)'):
        verify.pictures([tmp_path / 'a.mkv'], 3)
    with pytest.raises(ConfigError, match='hold no picture'):
        verify.pictures([tmp_path], 3)


def test_an_onnx_file_with_its_options(data_dir, tmp_path, capsys):
    """A network of a zoo, which nothing tells about but its page: by one command."""
    source = data_dir / 'models' / 'road-segmentation-adas-0001' / 'model.onnx'
    out = tmp_path / 'out'
    told = [str(source), str(out), '--code-licence', 'Apache-2.0', '--weights-licence', 'unknown',
            '--data-licence', 'unknown', '--most', '2', '--no-runtimes', '--classes',
            'background,road,curb,mark']
    assert import_model.main(told) == 2 and not out.exists()
    assert 'give --colour, --mean, --std' in capsys.readouterr().err
    assert import_model.main([*told, '--colour', 'bgr', '--mean', '0', '0', '0', '--std', '1', '1',
                              '1', '--kind', 'probabilities']) == 0
    card = load_card(out)
    assert card.input.layout == 'NHWC' and card.main_output.name == 'tf.identity'
    assert card.main_output.classes.drivable_lut().nonzero()[0].tolist() == [1, 3]
    assert '100.000% of its labels' in card.description
    assert yaml.safe_load(card.path.read_text())['speed'][0]['input'] == '896x512'


def test_other_runtimes_are_tried_and_what_they_cannot_is_told(tmp_path):
    runtimes = pytest.importorskip('importing.runtimes')
    card = load_card(MODELS / 'palette_stride8')
    told = '\n'.join(runtimes.tried(card, lambda picture: np.zeros(picture.shape[:2]), [grey(0)]))
    for name, words in (('openvino', 'OpenVINO: 0.000% of the labels on 1 pictures'),
                        ('tensorrt_rtx', ': an fp16 engine of ')):
        assert (words in told) == (importlib.util.find_spec(name) is not None)
    assert 'will not run it' not in told
    scored = yaml.safe_load(card.path.read_text())
    scored['input']['interpolation'] = 'antialias'
    (tmp_path / 'model.onnx').symlink_to(card.path.with_name('model.onnx'))
    (tmp_path / 'card.yaml').write_text(yaml.safe_dump(scored))
    told = runtimes._tensorrt(load_card(tmp_path), Size(32, 48))
    assert all('The node will not run it on the GPU, though' in line for line in told)
