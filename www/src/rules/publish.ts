// Puts checked rules in force: the bundle first, which changes nothing yet, then the release that names it.
import { ApiError, type Bundle, call, type Release } from '../api.ts';
import { core } from '../core/core.ts';
import { type Signer, sign } from './minisign.ts';

/** RFC 8785: members by UTF-16 code units; strings and numbers as `JSON.stringify` has them, which is where that RFC took them from. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.entries(value).filter(([, member]) => member !== undefined).sort(([one], [two]) => (one < two ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`;
}

export interface Published {
  digest: string;
  serial: number;
  published: boolean;
  problem: string | null;
}

export interface Words {
  note: string;
  author: string;
}

const seconds = () => Math.floor(Date.now() / 1000);

/**
 * Signs and publishes; `checked` is the bundle as the check built it, `seen` the serial of the release that it was compared
 * with. Nothing is published over a release that nobody has seen; of one that comes in at this moment the registry knows,
 * which takes no serial twice.
 */
export async function publish(signer: Signer, checked: string, seen: number, { note, author }: Words): Promise<Published> {
  const [{ bundles }, current] = await Promise.all([call<{ bundles: Bundle[] }>('/bundles'), currentSerial()]);
  if (current !== seen) throw new ApiError(409, 'unseen', `release ${current} came in meanwhile, and these rules were compared with ${seen ? `release ${seen}` : 'the shipped ones'}`, 'see what the difference is now, and sign again');
  const highest = Math.max(0, ...bundles.map(({ serial }) => serial));
  const bundle = canonical({ ...JSON.parse(checked), serial: highest + 1, created: seconds() });
  const digest = await core().digest(bundle);
  await call(`/bundles/${digest}`, { method: 'PUT', body: { bundle, signature: await sign(signer, bundle, `hedgerow bundle ${digest}`) } });
  const serial = seen + 1;
  const release = canonical({ release: 1, serial, created: seconds(), active: digest, note, author });
  const body = { release, signature: await sign(signer, release, `hedgerow release ${serial}`) };
  const answer = await call<Omit<Published, 'digest'>>('/releases', { method: 'POST', body });
  return { digest, ...answer };
}

/** Zero where there was no release yet. */
async function currentSerial(): Promise<number> {
  const { releases } = await call<{ releases: Release[] }>('/releases?limit=1');
  return releases[0]?.serial ?? 0;
}
