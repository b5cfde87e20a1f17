// The rules: to read, to edit, to see what an edit does, and to get it into force.
import { useCallback, useMemo, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { Panel } from '../components/parts.tsx';
import { Problem, Shown } from '../components/states.tsx';
import { go, link } from '../router.ts';
import { About } from '../rules/about.tsx';
import { useChanges, useUndone } from '../rules/changes.ts';
import { useCheck } from '../rules/check.ts';
import { Difference } from '../rules/difference.tsx';
import { Discard } from '../rules/discard.tsx';
import { Edit, type Spot } from '../rules/edit.tsx';
import { Effect } from '../rules/effect.tsx';
import { Findings } from '../rules/findings.tsx';
import { NewRule } from '../rules/newrule.tsx';
import { Push } from '../rules/push.tsx';
import { useReference } from '../rules/reference.ts';
import { discard, download, type Files, keep, pathOf, useDrafts, useFiles, useShipped } from '../rules/store.ts';
import { Tree } from '../rules/tree.tsx';
import './rules.css';

export function Rules({ params }: { params: URLSearchParams }) {
  const shipped = useShipped();
  return (
    <>
      {shipped.state !== 'ready' && <h1>Rules</h1>}
      <Shown loaded={shipped} lines={12}>
        {(shipped) => <Workbench shipped={shipped} params={params} />}
      </Shown>
    </>
  );
}

function Workbench({ shipped, params }: { shipped: Files; params: URLSearchParams }) {
  const changed = useDrafts();
  const files = useFiles(shipped, changed);
  const checked = useCheck(files);
  const reference = useReference();
  const [spot, setSpot] = useState<Spot | null>(null);
  const [isNew, setNew] = useState(false);
  const path = pathOf(files, params.get('rule')) ?? Object.keys(files).find((path) => path.endsWith('.yml'))!;
  const tab = params.get('tab') === 'edit' ? 'edit' : 'about';
  const counts = useMemo(() => countByPath(checked.report?.findings ?? []), [checked.report]);
  const bundle = checked.running ? null : (checked.report?.bundle ?? null);
  const ahead = useChanges(reference.bundle, bundle);
  const drift = useChanges(reference.shipped, reference.bundle);
  const undone = useUndone(drift, ahead);
  const isCompared = [drift, ahead].every((one) => one && !(one instanceof ApiError));
  const jump = (spot: Spot) => {
    setSpot(spot);
    go('rules', { rule: spot.path, tab: 'edit' });
  };
  const make = (path: string, text: string) => {
    keep(path, text, shipped);
    setNew(false);
    go('rules', { rule: path, tab: 'edit' });
  };
  const edits = Object.keys(changed).length;
  return (
    <>
      <div class="view-head">
        <h1>Rules</h1>
        <span class="note">{edits ? `${edits === 1 ? '1 file is' : `${edits} files are`} changed, in this page only` : 'As this console was built with them'}</span>
        <span class="end">
          {edits > 1 && <Discard what={`all ${edits} changes`} onDiscard={() => discard()} />}
          <button type="button" aria-expanded={isNew} onClick={() => setNew(!isNew)}>
            New rule
          </button>
        </span>
      </div>
      {undone && <Drift serial={reference.newest?.serial} undone={undone} />}
      {isNew && <NewRule files={files} onMake={make} onCancel={() => setNew(false)} />}
      <div class="rule-bench">
        <Tree files={files} changed={changed} findings={counts} open={path} tab={tab} />
        <div class="rule-main">
          <OpenFile path={path} tab={tab} files={files} shipped={shipped} changed={changed} checked={checked} spot={spot} />
          <Findings checked={checked} path={path} onJump={jump} />
          <Difference what={reference.what} compared={ahead} isBuilt={bundle !== null} />
          <Effect reference={reference} bundle={bundle} counts={ahead !== null && 'counts' in ahead && ahead.counts} />
          <Push changed={changed} bundle={bundle} reference={reference} undone={isCompared ? undone : null} />
        </div>
      </div>
    </>
  );
}

/** Edits begin with the rules of this build, which are not those that are released. */
const Drift = ({ serial, undone }: { serial?: number; undone: string }) => (
  <Problem error={new ApiError(0, 'drift', `release ${serial} has rules that this console was not built with: to sign here would ${undone}`, 'build and deploy the console from the released rules, or edit these files here as they were released')} />
);

function countByPath(findings: readonly { path: string }[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { path } of findings) counts.set(path, (counts.get(path) ?? 0) + 1);
  return counts;
}

interface OpenProps {
  path: string;
  tab: 'about' | 'edit';
  files: Files;
  shipped: Files;
  changed: Files;
  checked: ReturnType<typeof useCheck>;
  spot: Spot | null;
}

function OpenFile({ path, tab, files, shipped, changed, checked: { report }, spot }: OpenProps) {
  const text = files[path]!;
  const findings = useMemo(() => report?.findings.filter((finding) => finding.path === path) ?? [], [report, path]);
  const exemplars = useMemo(() => report?.exemplars.filter((exemplar) => exemplar.path === path) ?? [], [report, path]);
  const change = useCallback((text: string) => keep(path, text, shipped), [path, shipped]);
  const drop = () => {
    discard(path);
    if (!Object.hasOwn(shipped, path)) go('rules');
  };
  return (
    <Panel
      title={path}
      class="rule-file"
      end={
        <>
          {path in changed && <Discard what={Object.hasOwn(shipped, path) ? 'this change' : 'this rule'} onDiscard={drop} />}
          <button type="button" onClick={() => download(path.slice(path.lastIndexOf('/') + 1), text)}>
            Download
          </button>
        </>
      }
    >
      <nav class="rule-tabs" aria-label="How to see this file">
        {(['about', 'edit'] as const).map((name) => (
          <a key={name} href={link('rules', { rule: path, tab: name === 'about' ? null : name })} aria-current={name === tab ? 'page' : undefined}>
            {name === 'about' ? 'About' : 'Edit'}
          </a>
        ))}
      </nav>
      {tab === 'about' ? <About path={path} text={text} /> : <Edit path={path} text={text} shipped={shipped[path]} findings={findings} exemplars={exemplars} spot={spot} onChange={change} />}
    </Panel>
  );
}
