// How exemplars come out, beside the line that names them: a tick or a cross.
import { type Extension, RangeSet, StateEffect, StateField, type Text } from '@codemirror/state';
import { gutter, GutterMarker } from '@codemirror/view';
import type { Exemplar } from '../core/core.ts';
import { verdict } from './check.ts';

const PATHS = { fine: 'M3.5 8.5 6.5 11.5 12.5 4.5', wrong: 'M4 4 12 12M12 4 4 12' };
const SVG = 'http://www.w3.org/2000/svg';

class Mark extends GutterMarker {
  constructor(readonly own: Exemplar) {
    super();
  }

  override eq(other: Mark) {
    return other.own.name === this.own.name && other.own.expected === this.own.expected && other.own.matches === this.own.matches;
  }

  override toDOM() {
    const is = this.own.expected === this.own.matches ? 'fine' : 'wrong';
    const mark = document.createElement('span');
    mark.className = `exemplar ${is}`;
    mark.title = `${this.own.name}: ${verdict(this.own)}`;
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', '0 0 16 16');
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', PATHS[is]);
    svg.append(path);
    mark.append(svg);
    return mark;
  }
}

const setMarks = StateEffect.define<RangeSet<GutterMarker>>();

const marks = StateField.define<RangeSet<GutterMarker>>({
  create: () => RangeSet.empty,
  update(own, transaction) {
    for (const effect of transaction.effects) if (effect.is(setMarks)) return effect.value;
    return own.map(transaction.changes);
  },
});

export const exemplarGutter: Extension = [marks, gutter({ class: 'cm-exemplars', markers: (view) => view.state.field(marks) })];

/** What puts the marks of a file's exemplars there. */
export function showExemplars(doc: Text, exemplars: readonly Exemplar[]) {
  const known = exemplars.filter(({ line }) => line >= 1 && line <= doc.lines);
  return setMarks.of(RangeSet.of(known.map((own) => new Mark(own).range(doc.line(own.line).from)), true));
}
