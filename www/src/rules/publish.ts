// Publishes checked rules. Uploads the bundle, and then the release, which makes the bundle active.
import {
  ApiError,
  type BundleList,
  type BundleUpload,
  call,
  type PublishResult,
  type ReleaseList,
  type ReleaseUpload,
} from '../api.ts';
import { core } from '../core/core.ts';
import { type Signer, sign } from './minisign.ts';

/**
 * Serialises JSON as RFC 8785 requires: sorts members by UTF-16 code units, and writes strings and
 * numbers as `JSON.stringify` does.
 */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([one], [two]) => (one < two ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`);
  return `{${members.join(',')}}`;
}

/** The result, with the digest of the bundle. */
export type Published = PublishResult & { digest: string };

export interface ReleaseNote {
  note: string;
  author: string;
}

const seconds = () => Math.floor(Date.now() / 1000);

/**
 * Signs and publishes a bundle. `checked` is the bundle that the check built. `baseline` is the
 * serial of the release with which the bundle was compared.
 *
 * Rejects if there is a newer release, because the user has not seen the newer release. If another
 * release is published between this check and the upload, the registry rejects the serial.
 */
export async function publish(
  signer: Signer,
  checked: string,
  baseline: number,
  { note, author }: ReleaseNote,
): Promise<Published> {
  const [{ bundles }, current] = await Promise.all([
    call<BundleList>('/bundles'),
    currentSerial(),
  ]);
  if (current !== baseline) {
    const compared = baseline ? `release ${baseline}` : 'the shipped rules';
    throw new ApiError(
      409,
      'unseen',
      `release ${current} was published after these rules were compared with ${compared}`,
      'check the diff again, then sign',
    );
  }
  const highest = Math.max(0, ...bundles.map(({ serial }) => serial));
  const bundle = canonicalJson({
    ...JSON.parse(checked),
    serial: highest + 1,
    created: seconds(),
  });
  const digest = await core().digest(bundle);
  const bundleSignature = await sign(signer, bundle, `hedgerow bundle ${digest}`);
  const upload: BundleUpload = { bundle, signature: bundleSignature };
  await call(`/bundles/${digest}`, { method: 'PUT', body: upload });
  const serial = baseline + 1;
  const manifest = { release: 1, serial, created: seconds(), active: digest, note, author };
  const release = canonicalJson(manifest);
  const signature = await sign(signer, release, `hedgerow release ${serial}`);
  const body: ReleaseUpload = { release, signature };
  const answer = await call<PublishResult>('/releases', { method: 'POST', body });
  return { digest, ...answer };
}

/** Returns the serial of the newest release; 0 if nothing was released. */
async function currentSerial(): Promise<number> {
  const { releases } = await call<ReleaseList>('/releases?limit=1');
  return releases[0]?.serial ?? 0;
}
