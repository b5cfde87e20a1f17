// All rule files by family, searched by whatever stands in them.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { link } from '../router.ts';
import type { Files } from './store.ts';

interface Props {
  files: Files;
  changed: Files;
  /** Findings by path. */
  findings: ReadonlyMap<string, number>;
  open: string;
  tab: string;
}

const familyOf = (path: string) => (path.includes('/') ? path.slice(0, path.indexOf('/')) : 'policy');
const nameOf = (path: string) => path.slice(path.indexOf('/') + 1).replace(/\.ya?ml$/, '');

function found(files: Files, query: string): Map<string, string[]> {
  const words = query.toLowerCase().split(/\s+/);
  const groups = new Map<string, string[]>();
  for (const [path, text] of Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const all = query && `${path}\n${text}`.toLowerCase();
    if (words.every((word) => all.includes(word))) groups.set(familyOf(path), [...(groups.get(familyOf(path)) ?? []), path]);
  }
  return groups;
}

/** Scrolls a region, and nothing else, to where something can be seen. */
function show(region: HTMLElement, own: HTMLElement) {
  const [outer, inner] = [region.getBoundingClientRect(), own.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) region.scrollTop += inner.top - outer.top - outer.height / 2;
}

export function Tree({ files, changed, findings, open, tab }: Props) {
  const [query, setQuery] = useState('');
  const groups = useMemo(() => found(files, query), [files, query]);
  const region = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const own = region.current?.querySelector<HTMLElement>('[aria-current]');
    if (own) show(region.current!, own);
  }, [open]);
  const total = [...groups.values()].reduce((sum, paths) => sum + paths.length, 0);
  return (
    <nav class="panel rule-tree" aria-label="Rule files">
      <label for="rule-search">Search names and texts</label>
      <input id="rule-search" type="search" value={query} onInput={(event) => setQuery(event.currentTarget.value)} autocomplete="off" spellcheck={false} />
      <p class="note" role="status">
        {total} of {Object.keys(files).length} files
      </p>
      <div class="rule-families" ref={region} role="region" aria-label="Files by family" tabIndex={0}>
        {[...groups].map(([family, paths]) => (
          <details key={family} open={query.trim() !== '' || familyOf(open) === family}>
            <summary>
              {family} <span class="note">{paths.length}</span>
            </summary>
            <ul>
              {paths.map((path) => (
                <li key={path}>
                  <a href={link('rules', { rule: path, tab: tab === 'about' ? null : tab })} aria-current={path === open ? 'page' : undefined}>
                    <span class="rule-name">{nameOf(path)}</span>
                    {path in changed && <span class="rule-changed">changed</span>}
                    {findings.has(path) && <span class="rule-wrong">{findings.get(path)} to mend</span>}
                  </a>
                </li>
              ))}
            </ul>
          </details>
        ))}
        {total === 0 && <p class="note">No file holds all of these words. Search for fewer.</p>}
      </div>
    </nav>
  );
}
