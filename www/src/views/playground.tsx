// One request, scored while it is being written: what it weighs, where signatures found it, what would be done about it.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { Hash } from '../components/parts.tsx';
import { Problem } from '../components/states.tsx';
import { core } from '../core/core.ts';
import { BodyPanel } from '../playground/body.tsx';
import { ConditionsPanel, MOST_EXPLAINED } from '../playground/conditions.tsx';
import { FileButton } from '../playground/file.tsx';
import { type Choice, read, type Reading } from '../playground/input.ts';
import { InputError } from '../playground/problem.ts';
import { ReplayPanel } from '../playground/replaying.tsx';
import { DETECT, RequestPanel } from '../playground/request.tsx';
import { ResultPanel, SharedPanel } from '../playground/result.tsx';
import { explainer, messageOf, type Rules, useLatest, useRules } from '../playground/scoring.ts';
import { decode, resultOf } from '../playground/share.ts';
import { go } from '../router.ts';
import './playground.css';

/** What stands in the box when one comes back to the view. */
let kept: { text: string; choice: Choice } = { text: '', choice: DETECT };

function useReading({ text, choice }: typeof kept): { reading: Reading | null; error: InputError | null } {
  return useMemo(() => {
    if (!text.trim()) return { reading: null, error: null };
    try {
      return { reading: read(text, choice), error: null };
    } catch (error) {
      const known = error instanceof InputError ? error : new InputError(`This cannot be read: ${messageOf(error)}.`, 'Paste it again, or in another form.');
      return { reading: null, error: known };
    }
  }, [text, choice]);
}

/** Fields whose evidence lies in the body; that of others lies in a header's value or is a number. */
function useTextFields(): ReadonlySet<string> {
  const [names, set] = useState<ReadonlySet<string>>(new Set());
  useEffect(() => {
    core()
      .fields()
      .then((rows) => set(new Set(rows.filter(({ kind }) => kind === 'text').map(({ name }) => name))))
      // Without it nothing is marked; why the core is missing is said where it should score.
      .catch(() => undefined);
  }, []);
  return names;
}

export function Playground({ params }: { params: URLSearchParams }) {
  const [input, setInput] = useState(kept);
  const [picked, pick] = useState<string | null>(null);
  const [hovered, hover] = useState<string | null>(null);
  const { rules, shipped, error: rulesError, load, useShipped } = useRules();
  const { reading, error } = useReading(input);
  const textFields = useTextFields();
  // It is started while one is online.
  useEffect(() => void explainer(), []);
  const shared = params.get('result');

  const question = useMemo(() => (reading && rules ? { reading, rules } : null), [reading, rules]);
  const scored = useLatest(question, ({ reading, rules }) => core().score(rules.text, reading.line), 150);
  const answer = scored && 'answer' in scored ? scored.answer : null;
  const entries = answer?.decision?.entries ?? 0;
  const tooMany = entries > MOST_EXPLAINED;
  // Only what was scored is explained, so that uploads of thousands are not.
  const explain = scored && answer?.decision && !tooMany ? scored.question : null;
  const explained = useLatest(explain, ({ reading, rules }) => explainer().explain(rules.text, reading.line), 0);
  const result = useMemo(() => answer && resultOf(answer, picked), [answer, picked]);
  const hits = useMemo(() => answer?.decision?.hits ?? [], [answer]);

  const change = (next: Partial<typeof kept>) => {
    kept = { ...input, ...next };
    setInput(kept);
    hover(null);
    // The shared result makes place for one's own.
    if (shared !== null) go('playground');
  };
  const write = (text: string) => change(text ? { text } : { text, choice: DETECT });
  const choose = (text: string) => {
    pick(null);
    change({ text, choice: DETECT });
  };
  return (
    <>
      <div class="view-head">
        <h1>Playground</h1>
        <RulesBar rules={rules} failed={rulesError !== null} onFile={load} onShipped={useShipped} />
      </div>
      {rulesError && <Problem error={rulesError} />}
      <div class="grid playground">
        <div class="half stack">
          <RequestPanel {...input} reading={reading} error={error} onText={write} onExample={choose} onChoice={(choice) => change({ choice })} />
          {shared === null && scored && answer?.decision && (
            <BodyPanel text={scored.question.reading.body} hits={hits} textFields={textFields} lit={hovered ?? picked} onPick={pick} />
          )}
        </div>
        <div class="half stack">
          {shared !== null ? (
            <SharedPanel key={shared} result={decode(shared)} shipped={shipped} />
          ) : (
            <>
              <ResultPanel scored={scored} result={result} rules={rules} idle={!reading} onHover={hover} onPick={pick} onExample={choose} />
              {answer?.decision && <ConditionsPanel explained={explained} tooMany={tooMany} rules={rules} textFields={textFields} picked={picked} onPick={pick} />}
            </>
          )}
        </div>
        <ReplayPanel rules={rules} />
      </div>
    </>
  );
}

function RulesBar({ rules, failed, onFile, onShipped }: { rules: Rules | null; failed: boolean; onFile: (file: File) => void; onShipped: () => void }) {
  return (
    <div class="end">
      <span class="note rules-name">
        {rules?.file ? `Rules of ${rules.file.slice(0, 80)}` : 'Rules shipped with this console'} <Hash value={rules?.digest ?? null} />
      </span>
      {(rules?.file || failed) && (
        <button type="button" class="quiet" onClick={onShipped}>
          Use the shipped ones
        </button>
      )}
      <FileButton accept=".json,application/json" onFile={onFile}>
        Load a bundle
      </FileButton>
    </div>
  );
}
