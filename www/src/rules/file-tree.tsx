// All rule files by family, with a full-text search.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { link } from '../router.ts';
import type { Files } from './drafts.ts';

interface Props {
  files: Files;
  changed: Files;
  /** Number of findings by path. */
  findings: ReadonlyMap<string, number>;
  /** Path of the open file. */
  openPath: string;
  tab: string;
}

const familyOf = (path: string) =>
  path.includes('/') ? path.slice(0, path.indexOf('/')) : 'policy';
const nameOf = (path: string) => path.slice(path.indexOf('/') + 1).replace(/\.ya?ml$/, '');

/** Returns the paths of files that contain all words of the query, by family. */
function search(files: Files, query: string): Map<string, string[]> {
  const words = query.toLowerCase().split(/\s+/);
  const matches = Object.entries(files).filter(([path, text]) => {
    const content = query && `${path}\n${text}`.toLowerCase();
    return words.every((word) => content.includes(word));
  });
  const paths = matches.map(([path]) => path).sort();
  return Map.groupBy(paths, familyOf);
}

/** Scrolls `region`, and not the page, to `element`. */
function scrollInto(region: HTMLElement, element: HTMLElement) {
  const outer = region.getBoundingClientRect();
  const inner = element.getBoundingClientRect();
  if (inner.top < outer.top || inner.bottom > outer.bottom) {
    region.scrollTop += inner.top - outer.top - outer.height / 2;
  }
}

export function FileTree({ files, changed, findings, openPath, tab }: Props) {
  const [query, setQuery] = useState('');
  const groups = useMemo(() => search(files, query), [files, query]);
  const region = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const current = region.current?.querySelector<HTMLElement>('[aria-current]');
    if (current) scrollInto(region.current!, current);
  }, [openPath]);
  const total = [...groups.values()].reduce((sum, paths) => sum + paths.length, 0);
  return (
    <nav class="panel rule-tree" aria-label="Rule files">
      <label for="rule-search">Search names and texts</label>
      <input
        id="rule-search"
        type="search"
        value={query}
        onInput={(event) => setQuery(event.currentTarget.value)}
        autocomplete="off"
        spellcheck={false}
      />
      <p class="note" role="status">
        {total} of {Object.keys(files).length} files
      </p>
      <div
        class="rule-families"
        ref={region}
        role="region"
        aria-label="Files by family"
        tabIndex={0}
      >
        {[...groups].map(([family, paths]) => (
          <details key={family} open={query.trim() !== '' || familyOf(openPath) === family}>
            <summary>
              {family} <span class="note">{paths.length}</span>
            </summary>
            <ul>
              {paths.map((path) => (
                <li key={path}>
                  <a
                    href={link('rules', { rule: path, tab: tab === 'about' ? null : tab })}
                    aria-current={path === openPath ? 'page' : undefined}
                  >
                    <span class="rule-name">{nameOf(path)}</span>
                    {path in changed && <span class="rule-changed">changed</span>}
                    <FindingCount count={findings.get(path)} />
                  </a>
                </li>
              ))}
            </ul>
          </details>
        ))}
        {total === 0 && <p class="note">No file contains all of these words. Remove some.</p>}
      </div>
    </nav>
  );
}

function FindingCount({ count }: { count: number | undefined }) {
  if (!count) return null;
  return <span class="rule-problems">{count === 1 ? '1 problem' : `${count} problems`}</span>;
}
