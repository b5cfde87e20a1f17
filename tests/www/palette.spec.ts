// The palette of style.css: colour-blind people can distinguish the bands, and text is readable.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../edge/support.ts';
import { contrast, difference, lab, linear, seen, VISION } from './color.ts';

const BANDS = ['clear', 'notice', 'suspect', 'hostile'] as const;
const VISIONS = Object.keys(VISION) as (keyof typeof VISION)[];
/** The smallest difference of two bands, in CIEDE2000. */
const MIN_DIFFERENCE = 20;
/** WCAG 2.2: contrast of graphics (1.4.11) and of text (1.4.3). */
const GRAPHIC = 3;
const TEXT = 4.5;

/** Reads the colours of a theme from the custom properties, by name. */
function palette(theme: 'light' | 'dark'): Map<string, string> {
  const css = readFileSync(path.join(ROOT, 'www/src/style.css'), 'utf8');
  const pattern = /--([\w-]+):\s*light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)/g;
  return new Map(
    [...css.matchAll(pattern)].map(([, name, light, dark]) => [
      name!,
      theme === 'light' ? light! : dark!,
    ]),
  );
}

// Pairs of the test data of Sharma, Wu and Dalal (2005), doi:10.1002/col.20070.
it.each([
  [[50, 2.6772, -79.7751], [50, 0, -82.7485], 2.0425],
  [[50, 0, 0], [50, -1, 2], 2.3669],
  [[50, 2.5, 0], [73, 25, -18], 27.1492],
  [[60.2574, -34.0099, 36.2677], [60.4626, -34.1751, 39.4387], 1.2644],
  [[2.0776, 0.0795, -1.135], [0.9033, -0.0636, -0.5514], 0.9082],
] as [[number, number, number], [number, number, number], number][])(
  'the difference of %j and %j is %d',
  (a, b, expected) => {
    expect(difference(a, b)).toBeCloseTo(expected, 4);
    expect(difference(b, a)).toBeCloseTo(expected, 4);
  },
);

describe.each(['light', 'dark'] as const)('the %s theme', (theme) => {
  const colors = palette(theme);
  const color = (name: string) => {
    expect([name, colors.get(name)]).toEqual([name, expect.any(String)]);
    return linear(colors.get(name)!);
  };

  it.each(VISIONS)('distinguishes all bands, with %s vision', (vision) => {
    const areas = BANDS.map((band) => lab(seen(color(`area-${band}`), vision)));
    for (const [a, first] of areas.entries()) {
      for (const [b, second] of areas.entries()) {
        if (a === b) continue;
        const pair = `${BANDS[a]} and ${BANDS[b]}`;
        expect(difference(first, second), pair).toBeGreaterThanOrEqual(MIN_DIFFERENCE);
      }
    }
  });

  it('is a ladder: severe bands differ more from the page', () => {
    const panel = lab(color('panel'))[0];
    const steps = BANDS.map((band) => Math.abs(lab(color(`area-${band}`))[0] - panel));
    expect(steps).toEqual(steps.toSorted((a, b) => a - b));
  });

  it.each(BANDS)('shows %s on each background, and text on it', (band) => {
    for (const background of ['ground', 'panel', 'sunk']) {
      const ratio = contrast(color(`area-${band}`), color(background));
      expect(ratio, background).toBeGreaterThanOrEqual(GRAPHIC);
    }
    const ratio = contrast(color(`on-${band}`), color(`area-${band}`));
    expect(ratio).toBeGreaterThanOrEqual(TEXT);
  });

  it.each(['text', 'dim', 'accent', 'notice', 'suspect', 'hostile', 'clear'])(
    'has readable text in %s',
    (name) => {
      for (const background of ['ground', 'panel', 'sunk']) {
        expect(contrast(color(name), color(background)), background).toBeGreaterThanOrEqual(TEXT);
      }
    },
  );
});
