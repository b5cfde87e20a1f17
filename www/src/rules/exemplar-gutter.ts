// A gutter with the result of each exemplar: a tick or a cross at the line of its name.
import { type Extension, RangeSet, StateEffect, StateField, type Text } from '@codemirror/state';
import { gutter, GutterMarker } from '@codemirror/view';
import type { ExemplarResult } from '../core/core.ts';
import { describeResult } from './use-check.ts';

const ICONS = { passed: 'M3.5 8.5 6.5 11.5 12.5 4.5', failed: 'M4 4 12 12M12 4 4 12' };
const SVG = 'http://www.w3.org/2000/svg';

class Marker extends GutterMarker {
  constructor(readonly exemplar: ExemplarResult) {
    super();
  }

  override eq({ exemplar: other }: Marker) {
    const { name, expected, actual } = this.exemplar;
    return other.name === name && other.expected === expected && other.actual === actual;
  }

  override toDOM() {
    const { name, expected, actual } = this.exemplar;
    const result = expected === actual ? 'passed' : 'failed';
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', ICONS[result]);
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', '0 0 16 16');
    svg.append(path);
    const marker = document.createElement('span');
    marker.className = `exemplar ${result}`;
    marker.title = `${name}: ${describeResult(this.exemplar)}`;
    marker.append(svg);
    return marker;
  }
}

const setMarkers = StateEffect.define<RangeSet<GutterMarker>>();

const markers = StateField.define<RangeSet<GutterMarker>>({
  create: () => RangeSet.empty,
  update(current, transaction) {
    for (const effect of transaction.effects) if (effect.is(setMarkers)) return effect.value;
    return current.map(transaction.changes);
  },
});

export const exemplarGutter: Extension = [
  markers,
  gutter({ class: 'cm-exemplars', markers: (view) => view.state.field(markers) }),
];

/** Returns the effect that shows the results of a file's exemplars. */
export function showExemplars(doc: Text, exemplars: readonly ExemplarResult[]) {
  const ranges = exemplars
    .filter(({ line }) => line >= 1 && line <= doc.lines)
    .map((exemplar) => new Marker(exemplar).range(doc.line(exemplar.line).from));
  return setMarkers.of(RangeSet.of(ranges, true));
}
