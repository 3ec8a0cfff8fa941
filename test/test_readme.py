"""What the README says is what the code does."""

from pathlib import Path
import re

from seg_node.products import NAMES
from seg_node.ros import parameters

README = Path(__file__).parents[1] / 'README.md'


def test_parameter_table_is_the_code_s():
    shown = re.search(r'<!-- parameters: .*?-->\n(.*?)<!-- end', README.read_text(), re.S).group(1)
    tables = re.findall(r'(?:\|.*\|\n)+', shown)
    assert [table.strip() for table in tables] == [
        parameters.table(parameters.NODE), parameters.table(parameters.CAMERA, '<camera>.')]


def test_every_output_is_listed():
    text = README.read_text()
    for name in (*NAMES, 'camera_info', 'label_info', 'label_info_json'):
        assert f'~/front/{name}`' in text or f'`{name}`' in text, name
