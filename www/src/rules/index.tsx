// The view Rules: users read and edit rule files, see the effect of an edit, and publish it.
import './rules.css';
import { useCallback, useMemo, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { Async, Problem } from '../components/async-states.tsx';
import { Panel } from '../components/ui.tsx';
import { download } from '../download.ts';
import { link, navigate } from '../router.ts';
import { useBaseline } from './baseline.ts';
import { useBundleDiff, useReverts } from './bundle-diff.ts';
import { CheckPanel } from './check-panel.tsx';
import { DiffView } from './diff-view.tsx';
import { DiscardButton } from './discard-button.tsx';
import {
  discard,
  type Files,
  pathOf,
  saveDraft,
  useDrafts,
  useFiles,
  useShipped,
} from './drafts.ts';
import { type CursorTarget, EditView } from './edit-view.tsx';
import { FileTree } from './file-tree.tsx';
import { NewRule } from './new-rule.tsx';
import { PushPanel } from './push-panel.tsx';
import { ReplayImpact } from './replay-impact.tsx';
import { RuleDetails } from './rule-details.tsx';
import { type Checked, useCheck } from './use-check.ts';

export function Rules({ params }: { params: URLSearchParams }) {
  const shipped = useShipped();
  return (
    <>
      {shipped.state !== 'ready' && <h1>Rules</h1>}
      <Async loaded={shipped} lines={12}>
        {(shipped) => <Workbench shipped={shipped} params={params} />}
      </Async>
    </>
  );
}

function Workbench({ shipped, params }: { shipped: Files; params: URLSearchParams }) {
  const changed = useDrafts();
  const files = useFiles(shipped, changed);
  const checked = useCheck(files);
  const baseline = useBaseline();
  const [target, setTarget] = useState<CursorTarget | null>(null);
  const [isCreating, setIsCreating] = useState(false);
  const firstRule = Object.keys(files).find((path) => path.endsWith('.yml'))!;
  const wanted = params.get('rule');
  const found = pathOf(files, wanted);
  const path = found ?? firstRule;
  const tab = params.get('tab') === 'edit' ? 'edit' : 'about';
  const counts = useMemo(() => countByPath(checked.report?.findings ?? []), [checked.report]);
  const bundle = checked.isRunning ? null : (checked.report?.bundle ?? null);
  const edits = useBundleDiff(baseline.bundle, bundle);
  const drift = useBundleDiff(baseline.shipped, baseline.bundle);
  const reverts = useReverts(drift, edits);
  const isCompared = [drift, edits].every((diff) => diff && !(diff instanceof ApiError));
  const jump = (target: CursorTarget) => {
    setTarget(target);
    navigate('rules', { rule: target.path, tab: 'edit' });
  };
  const create = (path: string, text: string) => {
    saveDraft(path, text, shipped);
    setIsCreating(false);
    navigate('rules', { rule: path, tab: 'edit' });
  };
  return (
    <>
      <div class="view-head">
        <h1>Rules</h1>
        <ChangeNote changed={changed} />
        <span class="end">
          {Object.keys(changed).length > 1 && (
            <DiscardButton
              subject={`all ${Object.keys(changed).length} changes`}
              onDiscard={() => discard()}
            />
          )}
          <button
            type="button"
            aria-expanded={isCreating}
            onClick={() => setIsCreating(!isCreating)}
          >
            New rule
          </button>
        </span>
      </div>
      {reverts && <DriftNotice serial={baseline.newest?.serial} reverts={reverts} />}
      {wanted && !found && <UnknownRule name={wanted} />}
      {isCreating && (
        <NewRule files={files} onCreate={create} onCancel={() => setIsCreating(false)} />
      )}
      <div class="rule-bench">
        <FileTree files={files} changed={changed} findings={counts} openPath={path} tab={tab} />
        <div class="rule-main">
          <OpenFile
            path={path}
            tab={tab}
            files={files}
            shipped={shipped}
            changed={changed}
            checked={checked}
            target={target}
          />
          <CheckPanel checked={checked} path={path} onJump={jump} />
          <DiffView baseline={baseline.description} diff={edits} isBuilt={bundle !== null} />
          <ReplayImpact
            baseline={baseline}
            bundle={bundle}
            affectsCorrelations={
              edits !== null && !(edits instanceof ApiError) && edits.affectsCorrelations
            }
          />
          <PushPanel
            changed={changed}
            bundle={bundle}
            baseline={baseline}
            reverts={isCompared ? reverts : null}
          />
        </div>
      </div>
    </>
  );
}

const UnknownRule = ({ name }: { name: string }) => (
  <Problem
    error={
      new ApiError(
        0,
        'unknown_rule',
        `this console was not built with a rule named “${name}”`,
        'search for a part of the name; a rule of the release that decided may be missing here',
      )
    }
  />
);

function ChangeNote({ changed }: { changed: Files }) {
  const count = Object.keys(changed).length;
  const subject = count === 1 ? '1 file is' : `${count} files are`;
  return (
    <span class="note">
      {count ? `${subject} changed, only in this page` : 'Shipped with this console'}
    </span>
  );
}

/** A warning that the shipped rules, on which edits are based, are not the released rules. */
function DriftNotice({ serial, reverts }: { serial?: number; reverts: string }) {
  const error = new ApiError(
    0,
    'drift',
    `release ${serial} has rules that this console was not built with: signing here would ` +
      `${reverts}`,
    'build and deploy the console with the released rules, or edit the released text of ' +
      'these files here',
  );
  return <Problem error={error} />;
}

function countByPath(findings: readonly { path: string }[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { path } of findings) counts.set(path, (counts.get(path) ?? 0) + 1);
  return counts;
}

interface OpenFileProps {
  path: string;
  tab: 'about' | 'edit';
  files: Files;
  shipped: Files;
  changed: Files;
  checked: Checked;
  target: CursorTarget | null;
}

function OpenFile({ path, tab, files, shipped, changed, checked, target }: OpenFileProps) {
  const { report } = checked;
  const text = files[path]!;
  const findings = useMemo(
    () => report?.findings.filter((finding) => finding.path === path) ?? [],
    [report, path],
  );
  const exemplars = useMemo(
    () => report?.exemplars.filter((exemplar) => exemplar.path === path) ?? [],
    [report, path],
  );
  const change = useCallback((text: string) => saveDraft(path, text, shipped), [path, shipped]);
  const isShipped = Object.hasOwn(shipped, path);
  const discardFile = () => {
    discard(path);
    if (!isShipped) navigate('rules');
  };
  const controls = (
    <>
      {path in changed && (
        <DiscardButton subject={isShipped ? 'this change' : 'this rule'} onDiscard={discardFile} />
      )}
      <button type="button" onClick={() => download(path.slice(path.lastIndexOf('/') + 1), text)}>
        Download
      </button>
    </>
  );
  return (
    <Panel title={path} class="rule-file" end={controls}>
      <Tabs path={path} tab={tab} />
      {tab === 'about' ? (
        <RuleDetails path={path} text={text} />
      ) : (
        <EditView
          path={path}
          text={text}
          shipped={shipped[path]}
          findings={findings}
          exemplars={exemplars}
          target={target}
          onChange={change}
        />
      )}
    </Panel>
  );
}

function Tabs({ path, tab }: Pick<OpenFileProps, 'path' | 'tab'>) {
  return (
    <nav class="rule-tabs" aria-label="Views of this file">
      {(['about', 'edit'] as const).map((name) => (
        <a
          key={name}
          href={link('rules', { rule: path, tab: name === 'about' ? null : name })}
          aria-current={name === tab ? 'page' : undefined}
        >
          {name === 'about' ? 'About' : 'Edit'}
        </a>
      ))}
    </nav>
  );
}
