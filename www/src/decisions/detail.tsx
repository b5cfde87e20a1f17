// One decision: why this score, and what was done.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { type Decision, type Decisions, useApi } from '../api.ts';
import { ActionTag, BandTag, Copy, Hash, Time } from '../components/parts.tsx';
import { Empty, Shown } from '../components/states.tsx';
import { Waterfall } from '../components/waterfall.tsx';
import { bytes, count, decibans } from '../format.ts';
import { go, link } from '../router.ts';
import { byteRange } from './range.ts';

/** `known` is what the list has of it; else the ledger is asked. */
export function Detail({ id, known, onClose }: { id: string; known: Decision | undefined; onClose(): void }) {
  const asked = useApi<Decisions>(known ? null : `/decisions?${new URLSearchParams({ id, limit: '1' })}`);
  const head = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    head.current?.focus();
    const pressed = (event: KeyboardEvent) => event.key === 'Escape' && !isTyped(event) && onClose();
    addEventListener('keydown', pressed);
    return () => removeEventListener('keydown', pressed);
  }, [id]);
  return (
    <section class="panel detail" aria-labelledby="detail-title">
      <div class="panel-head">
        <h2 id="detail-title" tabIndex={-1} ref={head}>
          Decision
        </h2>
        <span class="panel-end">
          <button type="button" onClick={onClose}>
            Close
          </button>
        </span>
      </div>
      {known ? (
        <Told decision={known} />
      ) : (
        <Shown loaded={asked} lines={10}>
          {({ decisions: [decision] }) =>
            decision ? (
              <Told decision={decision} />
            ) : (
              <Empty>
                <p>The ledger does not have this decision: either it was never kept, or newer ones have taken its place.</p>
                <p>Look for its request id in the Worker’s log.</p>
              </Empty>
            )
          }
        </Shown>
      )}
    </section>
  );
}

/** In a box it means what is being typed. */
const isTyped = ({ target }: Event) => target instanceof Element && target.closest('input:not([type=checkbox]), select, textarea') !== null;

function Told({ decision }: { decision: Decision }) {
  const { request_id, score, band, prior, hits, contributions, error } = decision;
  return (
    <div class="told">
      <p class="row">
        <span class="note">
          Request id (what the client saw as <code>x-hedgerow-request-id</code>)
        </span>
        <code class="id">{request_id}</code> <Copy text={request_id} label="Copy id" />
      </p>
      {score !== null && band ? (
        <Waterfall prior={prior} hits={hits} contributions={contributions} score={score} band={band} onPick={(signature) => go('decisions', { signature })} />
      ) : (
        <div class="problem">
          <p>
            <strong>It could not be scored: {error ?? 'no reason is known'}.</strong> So there is no evidence to show. The overview says what to do about it.
          </p>
        </div>
      )}
      <Done decision={decision} />
      {hits.length > 0 && <Hits hits={hits} />}
      <Facts decision={decision} />
      <p class="note">There is no prompt to show: Hedgerow never stores any text of a request. Byte ranges say where the evidence was; the first byte is byte 0.</p>
    </div>
  );
}

function Done({ decision: { mode, action, exemption, band } }: { decision: Decision }) {
  const curbed = mode === 'enforce' ? 'was carried out.' : 'was only recorded: the mode is shadow, and the request was forwarded.';
  return (
    <p>
      {band && <BandTag band={band} />} <ActionTag action={action} />{' '}
      {action === 'allow' ? 'was decided: the request was forwarded.' : curbed}
      {exemption && (
        <>
          {' '}
          The exemption <b class="breakable">{exemption}</b> applied.
        </>
      )}
    </p>
  );
}

function Hits({ hits }: { hits: Decision['hits'] }) {
  return (
    <section>
      <h3>Where the evidence is</h3>
      <ul class="hits">
        {hits.map(({ name, family, weight, evidence, key }) => (
          <li key={`${name} ${key}`}>
            <a href={link('decisions', { signature: name })}>{name}</a> <span class="note">{family}</span> <span class="weight">{decibans(weight)}</span>
            {evidence.map((own) => (
              <div key={`${own.field} ${own.start}`} class="where">
                <code>{own.field}</code> {own.end > own.start ? byteRange(own) : 'as a whole'}
              </div>
            ))}
            {key && (
              <div class="where">
                indicator <code>{key}</code>
              </div>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Facts({ decision: own }: { decision: Decision }) {
  const rows: [string, ComponentChildren][] = [
    ['Time', <Time at={own.at} />],
    ['Account', own.account && <Linked name="account" value={own.account} />],
    ['Cluster', own.cluster && <a href={link('clusters', { id: own.cluster })}>{own.cluster}</a>],
    ['Model', own.model && <Linked name="model" value={own.model} />],
    ['Colo', <Linked name="colo" value={own.colo} />],
    ['Call', own.dialect && `${own.dialect}, ${own.operation}`],
    ['Body', `${bytes(own.body_bytes)}${own.entries > 1 ? `, ${count(own.entries)} requests in it` : ''}`],
    ['Not scanned', own.unscanned_bytes > 0 && bytes(own.unscanned_bytes)],
    ['Unreadable', own.unreadable.join(', ')],
    ['Ruleset', <><Hash value={own.ruleset || null} /> as {own.role}{own.serial !== null && `, release ${own.serial}`}</>],
    ['Mode', own.mode],
    ['Experimental hits', own.shadow_hits.length > 0 && `${own.shadow_hits.join(', ')} (they weigh nothing)`],
    ['Error', own.error],
  ];
  return (
    <dl class="facts">
      {rows.filter(([, value]) => value).map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

const Linked = ({ name, value }: { name: string; value: string }) => (
  <a href={link('decisions', { [name]: value })} title={`Decisions of this ${name}`}>
    {value}
  </a>
);
