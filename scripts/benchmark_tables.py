"""
Make the tables and pictures of docs/benchmarks from the figures of the machines beside them.

    python scripts/benchmark_tables.py

It writes docs/benchmarks/README.md, a picture (SVG) for each machine, and the tables of MAIN into
docs/performance.md. Add a machine: `make bench ARGS='--backend onnxruntime openvino
--json docs/benchmarks/NAME.json'` and `python scripts/node_figures.py --cameras 1 2 4 8 --json
docs/benchmarks/NAME.json`, then run this.
"""

from html import escape
import json
from pathlib import Path
import re
import sys

FOLDER = Path(__file__).resolve().parents[1] / 'docs' / 'benchmarks'
PAGE = FOLDER.parent / 'performance.md'
MAIN = 'amd_epyc_bf16_2_cores'
BEGIN, END = '<!-- figures: python scripts/benchmark_tables.py -->', '<!-- end of figures -->'
WAYS = {'frame': 'this project', 'usual': 'the usual Python node (numpy in float64, full-size '
        'logits, softmax, argmax)', 'tutorial': "as the callback of Nav2's tutorial (numpy in "
        'float32, all of softmax)', 'careful': 'careful OpenCV (look-up tables, one warp a class, '
        'running maximum)'}
SHORT = {'frame': 'this project', 'usual': 'usual node', 'tutorial': 'tutorial',
         'careful': 'careful OpenCV'}
NETWORK, REST = '#b9c4cc', '#c2185b'


def machines():
    """Return the figures of each machine by the name of its file."""
    return {path.stem: json.loads(path.read_text(encoding='utf-8'))
            for path in sorted(FOLDER.glob('*.json'))}


def in_process(report):
    """Return the table of one frame on one backend, in one process."""
    glue = report['glue_core_ms']
    lines = [f'{report["model"]} on {report["backend"]}; {report["image"]} image, '
             f'{report["network_input"]} network; core ms, median (10 % to 90 %) of '
             f'{report["n"]} interleaved runs:', '',
             "| | whole frame | beside the network | | its labels equal this project's |",
             '|---|---|---|---|---|']
    for way, about in WAYS.items():
        own = 'glue' if way == 'frame' else f'{way}_glue'
        if f'{way}_core_ms' not in report:
            continue
        equal = '' if way == 'frame' else f'{report["labels_equal"][way]:.2%}'
        times = '' if way == 'frame' else f'{report[f"{own}_core_ms"] / glue:.1f} x'
        lines.append(f'| {about} | {spread(report, f"{way}_core_ms")} | '
                     f'{spread(report, f"{own}_core_ms")} | {times} | {equal} |')
    return '\n'.join(lines)


def spread(report, key):
    """Return a median and its spread in words."""
    low, high = report['spread'][key]
    return f'{number(report[key])} ({number(low)} to {number(high)})'


def number(value):
    """Return a figure with three digits that mean something."""
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}'


def over_dds(figures):
    """Return the table of the node and of rclpy alone, by the number of cameras."""
    lines = [f'Over DDS, {figures["image"]} in and a mask of that size out, executor '
             f'{figures["executor"]}; the network is next to none ({figures["network_core_ms"]} '
             'of the core ms); `bare` is rclpy alone with the same traffic, the others make the '
             'mask as they do above, in a callback of rclpy:', '',
             '| cameras | | core ms a frame sent, median (10 % to 90 %), n seconds | masks | '
             'core ms a mask | latency p50, p99, p99.9 (ms) |', '|---|---|---|---|---|---|']
    for row in figures['rows']:
        low, high = row['core_ms_spread']
        late = row['latency_ms']
        a_mask = row['core_ms'] * row['sent'] / row['masks']
        lines.append(
            f'| {row["cameras"]} at {row["hz"]:g} Hz | {row["subject"]} | {row["core_ms"]} ({low} '
            f'to {high}), {row["seconds"]} | {row["masks"]} of {row["sent"]} | {a_mask:.1f} | '
            f'{late["p50"]}, {late["p99"]}, {late["p99.9"]} '
            f'({late["p99.9"] / late["p50"]:.1f} x p50) |')
    return '\n'.join(lines)


def tables(figures):
    """Return all tables of a machine."""
    parts = [in_process(report) for report in figures.get('in_process', ())]
    if 'over_dds' in figures:
        parts.append(over_dds(figures['over_dds']))
    return '\n\n'.join(parts)


def about(machine):
    """Return what the figures of a machine depend on, as a line."""
    libraries = ', '.join(f'{name} {number}' for name, number in machine['versions'].items())
    return (f'{machine["cores"]} cores of {machine["cpu"]}; GPU: {machine["gpu"] or "none"}; '
            f'power mode: {machine["power"] or "not told"}; load before: {machine["load"]}; '
            f'{machine["system"]}, Python {machine["python"]}, {libraries}')


def picture(reports):
    """Return bars as SVG: what a whole frame takes, the network's part of it in grey."""
    rows = [(report['backend'], SHORT[way], report[f'{way}_core_ms'],
             report['glue_core_ms' if way == 'frame' else f'{way}_glue_core_ms'])
            for report in reports for way in SHORT if f'{way}_core_ms' in report]
    scale = 520 / max(total for *_, total, _ in rows)
    lines, y, last = [], 34, ''
    for backend, way, total, rest in rows:
        if backend != last:
            lines.append(f'<text x="8" y="{y + 14}" font-weight="bold">{escape(backend)}</text>')
            y, last = y + 22, backend
        network = (total - rest) * scale
        lines += [f'<text x="150" y="{y + 14}" text-anchor="end">{way}</text>',
                  f'<rect x="158" y="{y}" width="{network:.1f}" height="18" fill="{NETWORK}"/>',
                  f'<rect x="{158 + network:.1f}" y="{y}" width="{rest * scale:.1f}" height="18" '
                  f'fill="{REST}"/>',
                  f'<text x="{164 + total * scale:.1f}" y="{y + 14}">{number(total)}</text>']
        y += 23
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{y + 8}" '
            'font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" '
            'fill="white"/>\n<text x="8" y="20">Core ms of a frame: '
            f'<tspan fill="#71808a">network</tspan> and <tspan fill="{REST}">all else</tspan>'
            '</text>')
    return '\n'.join([head, *lines, '</svg>', ''])


def index(found):
    """Return the page of all machines."""
    lines = [f'<!-- Written by {Path(__file__).parent.name}/{Path(__file__).name}. -->',
             '# What a frame costs, by machine', '',
             'Core time is that of all threads. Only figures of one run are to be compared: on a '
             'machine that others', 'use, too, all of them shift. Add yours: '
             '[how](../../scripts/benchmark_tables.py).']
    for name, figures in found.items():
        lines += ['', f'## {name}', '', about(figures['machine']), '']
        if figures.get('in_process'):
            lines += [f'![what a frame costs]({name}.svg)', '']
        lines.append(tables(figures))
    return '\n'.join(lines) + '\n'


def files():
    """Return what is written, by path: the text that belongs there."""
    found = machines()
    written = {FOLDER / f'{name}.svg': picture(figures['in_process'])
               for name, figures in found.items() if figures.get('in_process')}
    written[FOLDER / 'README.md'] = index(found)
    page = PAGE.read_text(encoding='utf-8')
    written[PAGE] = re.sub(f'{BEGIN}\n.*?{END}',
                           lambda _: f'{BEGIN}\n{tables(found[MAIN])}\n\n{END}', page, flags=re.S)
    return written


def main():
    """Write everything anew."""
    for path, text in files().items():
        path.write_text(text, encoding='utf-8')
        print(path)


if __name__ == '__main__':
    sys.exit(main())
