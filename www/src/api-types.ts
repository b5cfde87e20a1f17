// Types of the admin API, generated from src/core/api by a test of the core. Do not edit; update:
//   UPDATE_API_TYPES=1 cargo test -p hedgerow-core --lib api

/** An action on a request. The variants are in ascending order of severity. */
export type Action = 'allow' | 'tag' | 'degrade' | 'throttle' | 'block';

/** Requests by action, one number per step. */
export type ActionSeries = {
  /** Requests with action allow. */
  allow: Array<number>;
  /** Requests with action tag. */
  tag: Array<number>;
  /** Requests with action degrade. */
  degrade: Array<number>;
  /** Requests with action throttle. */
  throttle: Array<number>;
  /** Requests with action block. */
  block: Array<number>;
};

/** An entry of the audit log. */
export type AuditEntry = {
  /**
   * Number of the entry, from 1. A request with this number as the parameter `before` returns
   * older entries.
   */
  id: number;
  /** Time of the call. */
  at: number;
  /**
   * Caller: the scope of the caller's token (`admin`, `stop` or `read`), or `nobody` without a
   * valid token. For releases from CONFIG_URL, the value is `pull`; for actions of the registry
   * itself, `registry`.
   */
  actor: string;
  /** Name of the action: `release` or `indicator.revoke`, for example. */
  action: string;
  /**
   * Object of the action: digest of the bundle, serial of the release, or key of the indicator
   * with the reason for its revocation.
   */
  subject: string;
  /** Author that the release or the revocation names; empty if it names none. */
  author: string;
  /**
   * Keyed hash of the client's address, 16 hexadecimal digits; null if the address or
   * ACCOUNT_SECRET is missing.
   */
  client: string | null;
  /** `ok`, the code of an error, or a description of the problem. */
  result: string;
};

/** The response of `GET /audit`. */
export type AuditLog = {
  /** Entries, newest first. */
  entries: Array<AuditEntry>;
};

/** The severity of a score. The variants are in ascending order. */
export type Band = 'clear' | 'notice' | 'suspect' | 'hostile';

/** Requests in band `from` of the active bundle and band `to` of the shadow bundle. */
export type BandChange = {
  /** Band of the active bundle. */
  from: Band;
  /** Band of the shadow bundle. */
  to: Band;
  /** Number of requests. */
  count: number;
};

/** Requests by band, one number per step. */
export type BandSeries = {
  /** Requests in band clear. */
  clear: Array<number>;
  /** Requests in band notice. */
  notice: Array<number>;
  /** Requests in band suspect. */
  suspect: Array<number>;
  /** Requests in band hostile. */
  hostile: Array<number>;
};

/** A stored bundle without its text; the response of `PUT /bundles/{digest}`. */
export type BundleInfo = {
  /** Digest of the bundle's text. */
  digest: string;
  /**
   * Content digest: the digest without serial, time and digests of source files. Empty in a
   * response of an older Worker.
   */
  content: string;
  /** Number of the push that built the bundle, from 1; 0 if the bundle was not built for a push. */
  serial: number;
  /** Time of the build. */
  created: number;
  /** Bytes of the bundle's text. */
  bytes: number;
  /** Number of signatures. */
  signatures: number;
  /** Number of lists. */
  lists: number;
  /** Time of the upload. */
  uploaded: number;
};

/** The response of `GET /bundles`. */
export type BundleList = {
  /** Stored bundles, last uploaded first. */
  bundles: Array<BundleInfo>;
};

/** The body of `PUT /bundles/{digest}`. */
export type BundleUpload = {
  /** Signed text of the bundle. */
  bundle: string;
  /** Minisign signature of the bundle: the text of the `.minisig` file. */
  signature: string;
};

/** A bundle for a share of the accounts. */
export type Canary = {
  /** Digest of the bundle, or `embedded`. */
  digest: string;
  /** Percent of the accounts, above 0 and up to 100. */
  percent: number;
  /**
   * Digest of the bundle in whose order accounts get the canary; the canary's own by default. A
   * canary that replaces another one after a patch keeps its order, and so its accounts.
   */
  order?: string;
};

/** An account that has several keys of a cluster, and may be the only link between parts of it. */
export type ClusterBridge = {
  /** Keyed hash of the account's id, 16 hexadecimal digits. */
  account: string;
  /** Number of keys of the cluster that the account has. */
  keys: number;
  /** Number of parts into which the cluster would fall without the account. */
  parts: number;
};

/** The response of `GET /clusters/{id}`. */
export type ClusterDetails = {
  /**
   * The pairs that `keys` counts. A key for which several correlations fired is in several
   * pairs.
   */
  links: Array<ClusterLink>;
  /**
   * Accounts that have several keys of the cluster, at most 20. The accounts with the highest
   * `parts` come first.
   */
  bridges: Array<ClusterBridge>;
  /** Traffic of the cluster; null if the ledger does not answer. */
  traffic: ClusterTraffic | null;
  /** Id of the cluster, 8 hexadecimal digits. */
  id: string;
  /**
   * Ids of clusters that have merged into this one, at most 64. The latest merge is first. `GET
   * /clusters/{id}` with any of these ids returns this cluster.
   */
  aliases: Array<string>;
  /**
   * Number of accounts that firings have linked. An account that joined after the last firing is
   * not included yet.
   */
  accounts: number;
  /**
   * Number of pairs of a key and a correlation that fired for the key, at most 64. Further keys
   * link accounts, too, but are not counted.
   */
  keys: number;
  /** Names of the correlations in these pairs, in alphabetical order. */
  correlations: Array<string>;
  /** Time of the first firing. */
  first: number;
  /** Time of the last firing. */
  last: number;
};

/** A cluster with its traffic. */
export type ClusterInfo = {
  /** Traffic of the cluster; null if the ledger does not answer. */
  traffic: ClusterTraffic | null;
  /** Id of the cluster, 8 hexadecimal digits. */
  id: string;
  /**
   * Ids of clusters that have merged into this one, at most 64. The latest merge is first. `GET
   * /clusters/{id}` with any of these ids returns this cluster.
   */
  aliases: Array<string>;
  /**
   * Number of accounts that firings have linked. An account that joined after the last firing is
   * not included yet.
   */
  accounts: number;
  /**
   * Number of pairs of a key and a correlation that fired for the key, at most 64. Further keys
   * link accounts, too, but are not counted.
   */
  keys: number;
  /** Names of the correlations in these pairs, in alphabetical order. */
  correlations: Array<string>;
  /** Time of the first firing. */
  first: number;
  /** Time of the last firing. */
  last: number;
};

/** A key that links accounts, and a correlation that fired for the key. */
export type ClusterLink = {
  /** Keyed hash of the shared values, 16 hexadecimal digits. */
  key: string;
  /** Name of the correlation. */
  correlation: string;
};

/** The response of `GET /clusters`. */
export type ClusterList = {
  /** Clusters, last seen first; at most 200. */
  clusters: Array<ClusterInfo>;
};

/** A cluster, without its traffic. */
export type ClusterSummary = {
  /** Id of the cluster, 8 hexadecimal digits. */
  id: string;
  /**
   * Ids of clusters that have merged into this one, at most 64. The latest merge is first. `GET
   * /clusters/{id}` with any of these ids returns this cluster.
   */
  aliases: Array<string>;
  /**
   * Number of accounts that firings have linked. An account that joined after the last firing is
   * not included yet.
   */
  accounts: number;
  /**
   * Number of pairs of a key and a correlation that fired for the key, at most 64. Further keys
   * link accounts, too, but are not counted.
   */
  keys: number;
  /** Names of the correlations in these pairs, in alphabetical order. */
  correlations: Array<string>;
  /** Time of the first firing. */
  first: number;
  /** Time of the last firing. */
  last: number;
};

/** Traffic of a cluster: the requests that matched one of its indicators. */
export type ClusterTraffic = {
  /** Length of the period in whole minutes. */
  minutes: number;
  /** Number of requests. */
  requests: number;
  /** Requests by band. */
  by_band: { [key in string]: number };
  /**
   * Requests by model. The key `other` counts requests whose model may not be stored or exceeds
   * the limit of models per cluster.
   */
  by_model: { [key in string]: number };
};

/** The role of a host for the console, which depends on the setting CONSOLE_HOST. */
export type ConsoleHost = 'own' | 'local' | 'shared' | 'other';

/** The contribution of a family of signatures to a score, in decibans. */
export type Contribution = {
  /** Name of the family. */
  family: string;
  /** Sum of the weights of the family's hits. */
  raw: number;
  /** Sum of the weights, limited to the cap of the family. */
  capped: number;
};

/** A hit of a signature, list or correlation, as it is logged. */
export type DecisionHit = {
  /** Name of the signature, list or correlation. */
  name: string;
  /** Family, whose weights are capped together. */
  family: string;
  /** Weight in decibans. */
  weight: number;
  /** Fields and byte ranges; never text. */
  evidence: Array<Evidence>;
  /**
   * Innocence selections of the signature that hold: they are signs of a harmless request and
   * reduce its score. Missing if none holds.
   */
  innocence?: Array<string>;
  /**
   * Key of the indicator, 16 hexadecimal digits; missing unless the hit comes from an indicator.
   */
  key?: string;
};

/** The response of `GET /decisions`. */
export type DecisionList = {
  /** Decisions that match the query, newest first. */
  decisions: Array<DecisionRecord>;
  /** Number of decisions in the ledger, matching or not. */
  stored: number;
  /** Maximum number of decisions in the ledger. */
  capacity: number;
  /**
   * Number of decisions of the period that the ledger has, whatever the other filters. They are
   * the enforced ones if the query has `enforced`, otherwise the sampled ones.
   */
  kept: number;
  /**
   * Number of decisions of this kind that isolates counted in the period. If it is larger than
   * `kept`, some decisions are missing.
   */
  counted: number;
  /** Value of `before` for the next page of enforced decisions; missing on the last page. */
  next?: string;
};

/**
 * A decision as the ledger stores it. It contains no text of the request, except the name of the
 * model.
 */
export type DecisionRecord = {
  /** Request id, as the client received it in `x-hedgerow-request-id`. */
  request_id: string;
  /** Time of the decision, in milliseconds since the epoch. */
  at: number;
  /** IATA code of the data centre that processed the request. */
  colo: string;
  /**
   * Name of the requested model; null if the request names no model, or if the name may not be
   * stored.
   */
  model: string | null;
  /**
   * Reason why this ruleset decided. For example, `active`: the release names the ruleset for
   * all accounts.
   */
  role: RulesetRole;
  /** Serial of the release in force; null before the first release. */
  serial: number | null;
  /** Failure of Hedgerow that prevented the scoring of the request; null if there was none. */
  error: string | null;
  /** Id of the account, a keyed hash: 32 hexadecimal digits; null if the request has no account. */
  account: string | null;
  /**
   * Method by which the account was determined: `key` or `jwt`, for example; missing if the
   * request has no account.
   */
  account_kind?: string;
  /** Id of the tenant, a keyed hash: 32 hexadecimal digits; missing if it is not known. */
  tenant?: string;
  /** Label of the account: its name in clear text; missing unless the policy has `labels`. */
  account_label?: string;
  /** Label of the tenant: its name in clear text; missing unless the policy has `labels`. */
  tenant_label?: string;
  /**
   * Id of the cluster of an indicator that hit. If the indicators have several clusters, this is
   * the cluster that the policy treats most strictly. Missing if the indicators have no cluster.
   */
  cluster?: string;
  /** Former ids of the cluster `cluster`, at most 16; missing if it has none. */
  cluster_aliases?: Array<string>;
  /**
   * Ids of the other clusters of the indicators that hit, at most 16; missing if there are none.
   */
  other_clusters?: Array<string>;
  /** Dialect of the body: `openai`, for example. */
  dialect: string;
  /** Operation of the endpoint: `chat`, for example. */
  operation: string;
  /** Score from 0 to 100; null if scoring failed. */
  score: number | null;
  /** Prior of the policy: the decibans before any evidence is added. */
  prior: number;
  /** Evidence of all hits in decibans, after the cap of each family of signatures. */
  evidence: number;
  /** Contribution of each family of signatures to the evidence. */
  contributions: Array<Contribution>;
  /** Band of the score; null if scoring failed. */
  band: Band | null;
  /** Action that the policy gives for the request. Mode Shadow only records the action. */
  action: Action;
  /** Mode of the policy. */
  mode: Mode;
  /** Whether the decision had an effect: the request was refused, or its body was edited. */
  enforced: boolean;
  /**
   * Outcome of the action `degrade`: `edited`, `unchanged` or `not_editable`; missing if the
   * action was not carried out.
   */
  degraded?: string;
  /** Signatures, lists and correlations that hit. */
  hits: Array<DecisionHit>;
  /** Names of experimental signatures that matched. They do not change the score. */
  shadow_hits: Array<string>;
  /** Name of the exemption that applies; null if none applies. */
  exemption: string | null;
  /** Digest of the bundle that decided. */
  ruleset: string;
  /** Bytes of the body. */
  body_bytes: number;
  /** Bytes of the body that were not scored. */
  unscanned_bytes: number;
  /** Reasons why parts of the body were not read. */
  unreadable: Array<string>;
  /** Reasons why a part of the request was not scored; empty if all of it was scored. */
  unscored: Array<string>;
  /** Share of the body's bytes that were scored, 0 to 1; null if it is unknown. */
  scored_share: number | null;
  /**
   * The reason in `unscored` that determines the action; missing if the score determines the
   * action.
   */
  incomplete?: string;
  /** Number of LLM requests in the body. */
  entries: number;
};

/** The response of `GET /status`. */
export type DeploymentStatus = {
  /** Time of the response. */
  now: number;
  /** Version of the Worker. */
  version: string;
  /** Digest of the embedded rules; null if they do not load. */
  embedded: string | null;
  /** Content digest of the embedded rules; empty in a response of an older Worker. */
  embedded_content: string;
  /** Public keys that the deployment trusts. */
  keys: Array<string>;
  /** Newest release; null before the first release. */
  release: ReleaseInfo | null;
  /** Stop in force; null if enforcement is not stopped. */
  stop: StopStatus | null;
  /** Highest mode that MODE_CEILING allows; null if an older Worker does not report it. */
  mode_ceiling: Mode | null;
  /** Exemptions of the active bundle, in the order of its policy. */
  exemptions: Array<ExemptionInfo>;
  /** State of the release in KV. */
  publication: PublicationStatus;
  /** State of pulls from CONFIG_URL; null if CONFIG_URL is not set. */
  pull: PullStatus | null;
  /** Numbers of indicators and clusters. */
  indicators: IndicatorStatus;
  /** Number of accounts with a name or a tenant, and whether KV has the names. */
  principals: PrincipalsStatus;
  /** State of the ledger, which counts the traffic. */
  ledger: LedgerStatus;
  /** Traffic of the period; empty if the ledger does not answer. */
  traffic: TrafficSummary;
};

/** The body of an error. */
export type ErrorBody = {
  /** The error. */
  error: ErrorDetails;
};

/** A failure of Hedgerow. */
export type ErrorCount = {
  /** Description of the failure. */
  message: string;
  /** Number of failures in the period. */
  count: number;
};

/** An error with its remedy. */
export type ErrorDetails = {
  /**
   * Code for programs, which is never renamed. The schema `Error` of docs/openapi.yaml lists all
   * codes.
   */
  code: string;
  /** Problem, for people: one sentence without a full stop. */
  message: string;
  /**
   * Next step for the operator. It is empty if no token is configured: the API then answers
   * every request with the code `not_found`.
   */
  remedy: string;
  /** Serial of the newest release; present only with the codes `serial` and `precondition`. */
  serial?: number;
};

/** A failure of Hedgerow. */
export type ErrorSeries = {
  /** Description of the failure. */
  message: string;
  /** Number of failures in the period. */
  count: number;
  /** Failures by step. */
  points: Array<number>;
};

/** The location of a match: never the text itself. */
export type Evidence = {
  /** Field that the comparison tests. */
  field: string;
  /** Offset of the first byte: in the decompressed body for text, in the value for keywords. */
  start: number;
  /** Offset after the last byte. */
  end: number;
};

/** An exemption of the policy. */
export type ExemptionInfo = {
  /** Name, as decisions show it. */
  name: string;
  /** End: the time from which the exemption no longer applies. */
  until: number;
  /** Reason, for people. */
  reason: string;
};

/** An account, tenant or network, and the indicators that it caused. */
export type IndicatorCause = {
  /** Keyed hash, 16 hexadecimal digits. */
  id: string;
  /** Number of indicators. */
  count: number;
};

/** The response of `GET /indicators/{key}`. */
export type IndicatorDetails = {
  /** Keyed hash of the group's values, 16 hexadecimal digits. */
  key: string;
  /** Indicators of the key, one for each correlation that fired for it. */
  indicators: Array<IndicatorInfo>;
  /** Cluster that the key belongs to; null if it belongs to none. */
  cluster: ClusterSummary | null;
};

/** A key and a correlation that fired for it. */
export type IndicatorInfo = {
  /**
   * Number of the indicator, from 1. A request with this number as the parameter `before`
   * returns older indicators.
   */
  id: number;
  /** Name of the correlation. */
  correlation: string;
  /** Keyed hash of the group's values, 16 hexadecimal digits. */
  key: string;
  /** Time of the first firing. */
  first: number;
  /** Time of the last firing. */
  last: number;
  /** Time after which the indicator no longer counts, unless the correlation fires again. */
  expires: number;
  /** Number of firings. */
  times: number;
  /** Measured value at the last firing, in the unit of `threshold`. */
  measured: number;
  /** Condition of the correlation, in words. */
  threshold: string;
  /**
   * Number of accounts that the largest firing listed. For a large group, a firing lists only a
   * sample of the accounts.
   */
  accounts: number;
  /**
   * Id of the cluster that the key belongs to, 8 hexadecimal digits; null if it belongs to none.
   */
  cluster: string | null;
  /** Time of the revocation; null if the indicator is not revoked. */
  revoked_at: number | null;
  /** Reason for the revocation; null if the indicator is not revoked. */
  reason: string | null;
  /**
   * End of the revocation; null if the indicator is not revoked, or if the revocation ends when
   * the indicator expires.
   */
  revoked_until: number | null;
  /** Hash of the account that caused the first firing, 16 hexadecimal digits; null if unknown. */
  account: string | null;
  /** Hash of the tenant that caused the first firing, 16 hexadecimal digits; null if unknown. */
  tenant: string | null;
  /** Label of `account`; null if it is unknown, or the policy has no `labels`. */
  account_label: string | null;
  /** Label of `tenant`; null if it is unknown, or the policy has no `labels`. */
  tenant_label: string | null;
  /** Hash of the network that caused the first firing, 16 hexadecimal digits; null if unknown. */
  network: string | null;
};

/** The response of `GET /indicators`. */
export type IndicatorList = {
  /** Indicators, newest first. */
  indicators: Array<IndicatorInfo>;
  /** Number of indicators that the filters select, on all pages. */
  total: number;
};

/**
 * Numbers of indicators and clusters with their limits, and whether KV has the latest indicators.
 */
export type IndicatorStatus = {
  /** Number of active indicators. */
  count: number;
  /** Number of clusters. */
  clusters: number;
  /** Whether the latest indicators are still to be written to KV. */
  pending: boolean;
  /**
   * Reason why the last write to KV failed, or why the next write must wait; null if neither is
   * the case.
   */
  problem: string | null;
  /** Maximum of `count`. */
  max: number;
  /** Maximum number of indicators of one correlation. */
  max_per_correlation: number;
  /**
   * Number of indicators by correlation, without revoked indicators, but including expired
   * indicators that are not deleted yet.
   */
  by_correlation: { [key in string]: number };
  /** Number of revoked indicators. */
  revoked: number;
  /** Approximate number of links. A link records the accounts that one firing added to a key. */
  links: number;
  /** Maximum of `links`. If there are more, the oldest links are deleted. */
  max_links: number;
  /**
   * Number of firings that wait at the correlators to be sent, according to the last reports of
   * the correlators.
   */
  queued_firings: number;
  /**
   * Largest number of observations that waited at an isolate, according to the last reports of
   * the correlators. If 4,096 observations wait, the isolate drops further ones.
   */
  queued_observations: number;
  /** Number of writes of indicators to KV on this UTC day. */
  kv_writes: number;
  /** Maximum of `kv_writes`: KV_WRITES_PER_DAY. */
  kv_budget: number;
  /** Number of firings that a quota refused on this UTC day, since the registry was started. */
  refused_by_quota: number;
  /**
   * Number of firings that were refused on this UTC day, since the registry was started, because
   * the table was full of indicators that were at least as strong.
   */
  refused_as_weak: number;
  /**
   * Number of indicators that were replaced by stronger ones on this UTC day, since the registry
   * was started.
   */
  replaced: number;
  /** Accounts that caused the most indicators, at most 5, the highest count first. */
  top_accounts: Array<IndicatorCause>;
  /** Tenants that caused the most indicators, at most 5, the highest count first. */
  top_tenants: Array<IndicatorCause>;
  /** Networks that caused the most indicators, at most 5, the highest count first. */
  top_networks: Array<IndicatorCause>;
};

/** State of the ledger. */
export type LedgerStatus = {
  /** Whether all objects of the ledger answered. */
  reachable: boolean;
};

/** The response of `GET /live/ticket`. */
export type LiveTicket = {
  /** Ticket that the client sends in `Sec-WebSocket-Protocol` instead of a token. */
  ticket: string;
  /** Time after which the ticket is invalid. */
  expires: number;
};

/** The mode: whether actions are carried out. The variants are in ascending order of severity. */
export type Mode = 'shadow' | 'enforce';

/** Requests to paths that differ only in ids. */
export type PathCount = {
  /** HTTP method, or `WEBSOCKET` for a WebSocket. */
  method: string;
  /** Path, in which `*` stands for ids. */
  path: string;
  /** Number of requests. */
  count: number;
};

/**
 * A statement about an account. The entry identifies the account by the id of one of its requests,
 * by the account's id or by the account's name.
 */
export type PrincipalEntry = {
  /**
   * Request id, as the origin received it: the entry is about the account that sent the request.
   */
  request_id?: string;
  /** Account id, 32 hexadecimal digits: the entry is about this account. */
  id?: string;
  /**
   * Name of the account, up to 256 bytes. Without `request_id` and `id`, the entry is about the
   * account with this name.
   */
  account?: string;
  /** Name of the tenant, up to 256 bytes. */
  tenant?: string;
  /**
   * Time at which the statement ends, at most 366 days from now. If it is missing, the statement
   * ends after 30 days.
   */
  expires?: number;
};

/** The outcome of an entry. */
export type PrincipalOutcome = {
  /** Effect of the entry. */
  status: PrincipalStatus;
  /** Id of the account that the entry is about; null if the account was not found. */
  id: string | null;
};

/** The effect of an entry. */
export type PrincipalStatus = 'stored' | 'unknown_request' | 'no_account';

/** The response of `POST /principals`. */
export type PrincipalsResult = {
  /** Number of entries that were stored. */
  stored: number;
  /** Outcome of each entry, in the order of the body. */
  principals: Array<PrincipalOutcome>;
};

/** Number of accounts that the origin or the operator has named, and whether KV has the names. */
export type PrincipalsStatus = {
  /** Number of accounts with a name or a tenant. */
  count: number;
  /** Maximum of `count`. A further name replaces the oldest one. */
  max: number;
  /** Number of labels; 0 unless the policy has `labels`. */
  labels: number;
  /** Whether the latest names are still to be written to KV. */
  pending: boolean;
  /** Reason why the last write to KV failed; null if it succeeded. */
  problem: string | null;
};

/** The body of `POST /principals`. */
export type PrincipalsUpload = {
  /** Entries, at most 1,000. If several entries are about one account, the last entry applies. */
  principals: Array<PrincipalEntry>;
};

/** State of the release in KV, which isolates read. */
export type PublicationStatus = {
  /** Serial of the release in KV; null if KV has no release. */
  serial: number | null;
  /** Serial of a release that is not written to KV yet; null if there is none. */
  pending: number | null;
  /** Number of failed attempts to write the pending release. */
  attempts: number;
  /** Reason why the last attempt to write the pending release failed; null if no attempt failed. */
  problem: string | null;
};

/** The response of `POST /releases`, `POST /promote` and `POST /rollback`. */
export type PublishResult = {
  /** Number of the release. */
  serial: number;
  /**
   * Whether KV has the release. If not, the registry has stored the release and retries the
   * write.
   */
  published: boolean;
  /** Reason why KV does not have the release; null if KV has it. */
  problem: string | null;
  /** Whether a stop is in force, so that some or all requests are not enforced. */
  stopped: boolean;
};

/** State of pulls from CONFIG_URL. */
export type PullStatus = {
  /** Whether CONFIG_URL is set: always true, because the pull status is null without it. */
  url_set: boolean;
  /** Time of the last pull; null before the first pull. */
  checked: number | null;
  /** Time of the last pull that found a new release; null if no pull found one. */
  changed: number | null;
  /** Reason why the last pull failed; null if it succeeded. */
  problem: string | null;
};

/** A manifest of the bundles in force. */
export type Release = {
  /** Format number: `RELEASE_FORMAT`. Its name in JSON distinguishes a release from a bundle. */
  release: number;
  /** Number of the release, higher than the numbers of all earlier releases. */
  serial: number;
  /** Time of creation, in seconds since the epoch. For people: nothing depends on it. */
  created: number;
  /** Digest of the bundle in force, or `embedded`. */
  active: string;
  /** Bundle in force for a share of the accounts. */
  canary?: Canary;
  /** Bundle that also scores the requests. Its decisions are recorded, but never carried out. */
  shadow?: ShadowBundle;
  /**
   * End in seconds since the epoch, with a day of tolerance (`Release::is_expired`). A release
   * without an end does not expire.
   */
  expires?: number;
  /**
   * Time of the stop that the release ends. A stop stays in force during releases without this
   * member.
   */
  resumes?: number;
  /** Purpose, for people. */
  note: string;
  /** Name of the person who made the release. */
  author: string;
};

/** A stored release; the response of `GET /releases/current`. */
export type ReleaseInfo = {
  /** Number of the release, from 1. */
  serial: number;
  /** Action that made the release: `release`, `promote`, `rollback` or `pull`. */
  kind: string;
  /** Time at which the release was written to KV; null until then. */
  published: number | null;
  /** Signed content; null if it has a format that this version does not know. */
  release: Release | null;
  /**
   * Content digests of the bundles of `release`, by digest of the bundle. Bundles that are no
   * longer stored are missing, and so are the embedded rules.
   */
  contents: { [key in string]: string };
  /** Signed text of `release`. */
  text: string;
  /** Minisign signature of the release: the text of the `.minisig` file. */
  signature: string;
  /** Public key that verifies the signature: the second line of a `.pub` file. */
  key: string;
};

/** The response of `GET /releases`. */
export type ReleaseList = {
  /** Releases, newest first. */
  releases: Array<ReleaseInfo>;
};

/** The body of `POST /releases`, `POST /promote` and `POST /rollback`. */
export type ReleaseUpload = {
  /** Signed text of the release, at most 16 KiB. */
  release: string;
  /** Minisign signature of the release: the text of the `.minisig` file. */
  signature: string;
};

/** The body of `POST /indicators/{key}/revoke`. */
export type RevokeRequest = {
  /** Reason, of which the first 200 characters are stored. It must not be empty. */
  reason: string;
  /** Name of the person who revokes the indicators. */
  author: string;
  /**
   * End of the revocation, at most a year from now. If it is null, the revocation ends when the
   * indicator would have expired.
   */
  until: number | null;
};

/** The response of `POST /indicators/{key}/revoke`. */
export type RevokeResult = {
  /** Key that was revoked, 16 hexadecimal digits. */
  key: string;
  /** Number of indicators that the key had. */
  count: number;
};

/** The reason why a ruleset decides for an account. */
export type RulesetRole = 'embedded' | 'active' | 'canary';

/** Requests that one ruleset decided in one role. */
export type RulesetTraffic = {
  /** Digest of the bundle. */
  ruleset: string;
  /** Serial of the release; 0 if there was no release. */
  serial: number;
  /** Role of the ruleset: the reason why it decided. */
  role: RulesetRole;
  /** Number of requests in the period. */
  requests: number;
  /** Requests by band. */
  bands: { [key in string]: number };
};

/**
 * The response of `GET /series`. Each list named `points`, and each list in `bands` and `actions`,
 * has one number per step.
 */
export type Series = {
  /** Length of the period in minutes. */
  minutes: number;
  /** Seconds per step. */
  step: number;
  /** Start of each step. */
  at: Array<number>;
  /** Requests by band. */
  bands: BandSeries;
  /** Requests by action. */
  actions: ActionSeries;
  /** Requests by score: twenty buckets of five points, from 0 to 100. */
  scores: Array<number>;
  /** Hits of signatures, lists and correlations, the most frequent first; at most 50. */
  signatures: Array<SignatureSeries>;
  /** Failures of Hedgerow, the most frequent first; at most 50. */
  errors: Array<ErrorSeries>;
  /** Requests by the ruleset that decided. */
  rulesets: Array<RulesetTraffic>;
};

/** A bundle that is only evaluated. */
export type ShadowBundle = {
  /** Digest of the bundle, or `embedded`. */
  digest: string;
};

/** Requests that both the active bundle and the shadow bundle have scored. */
export type ShadowTraffic = {
  /** Digest of the shadow bundle. */
  ruleset: string;
  /** Number of requests. */
  requests: number;
  /** Requests by the bands of both bundles. */
  bands: Array<BandChange>;
  /** Signatures that hit requests with only one of the two bundles. */
  signatures: Array<SignatureDifference>;
};

/** Requests that a signature hit with only one of the bundles. */
export type SignatureDifference = {
  /** Name of the signature, list or correlation. */
  name: string;
  /** Number of requests that were hit only with the active bundle. */
  only_active: number;
  /** Number of requests that were hit only with the shadow bundle. */
  only_shadow: number;
};

/** Hits of a signature, list or correlation. */
export type SignatureHits = {
  /** Name of the signature, list or correlation. */
  name: string;
  /** Number of requests that the signature, list or correlation hit. */
  hits: number;
};

/** Hits of a signature, list or correlation. */
export type SignatureSeries = {
  /** Name of the signature, list or correlation. */
  name: string;
  /** Number of requests that the signature, list or correlation hit in the period. */
  hits: number;
  /** Hits by step. */
  points: Array<number>;
};

/** The response of `GET /bundles/{digest}`. */
export type SignedBundle = {
  /** Digest of `bundle`. */
  digest: string;
  /** Signed text of the bundle. */
  bundle: string;
  /** Minisign signature of the bundle: the text of the `.minisig` file. */
  signature: string;
};

/** An order to stop enforcing. */
export type Stop = {
  /** Time of the order, which also identifies it: no two orders have the same time. */
  at: number;
  /** Patterns of the paths that the order is for; empty for all requests. */
  paths: Array<string>;
  /** Reason, for people. */
  reason: string;
  /** Name of the person who gave the order; empty if it is not known. */
  author: string;
  /** Serial of the release that ended the order; null while the order is in force. */
  ended_by: number | null;
};

/**
 * The response of `POST /stop`, and the member `stop` of `GET /status`: the stop in force, and
 * whether isolates can read it.
 */
export type StopStatus = {
  /** The stop. Its paths include those of an earlier stop that was in force. */
  stop: Stop;
  /** Whether KV has the stop. If not, the registry retries the write. */
  published: boolean;
  /** Reason why KV does not have the stop; null if KV has it. */
  problem: string | null;
};

/** Decided requests of a period, over all isolates. */
export type TrafficSummary = {
  /** Length of the period in seconds. */
  seconds: number;
  /** Number of requests. */
  requests: number;
  /** Requests by serial of the release; `0` if the embedded rules decided without a release. */
  by_serial: { [key in string]: number };
  /** Requests by digest of the bundle that decided. */
  by_ruleset: { [key in string]: number };
  /** Requests by role of the ruleset that decided. */
  by_role: { [key in string]: number };
  /** Requests by band. */
  by_band: { [key in string]: number };
  /** Requests by action of the policy. The action is carried out only in mode Enforce. */
  by_action: { [key in string]: number };
  /** Requests by mode. */
  by_mode: { [key in string]: number };
  /** Requests by IATA code of the data centre. */
  by_colo: { [key in string]: number };
  /**
   * Requests by name of the exemption that applied. If several applied, the first one of the
   * policy counts.
   */
  by_exemption: { [key in string]: number };
  /** Signatures, lists and correlations with the most hits, the most frequent first; at most 50. */
  signatures: Array<SignatureHits>;
  /** Number of requests of which a part was not scored. */
  incomplete: number;
  /** Requests by reason why a part was not scored. A request may have several reasons. */
  by_unscored: { [key in string]: number };
  /**
   * Requests with a body that were forwarded unread, by method and path, the most frequent
   * first; at most 50.
   */
  forwarded_unread: Array<PathCount>;
  /**
   * Requests that were refused or degraded, but whose decisions are not kept: an isolate had no
   * room for them, or the ledger deleted them because of `max_bytes`.
   */
  enforced_not_kept: number;
  /**
   * Number of reports of isolates by MiB of the isolate's Wasm memory, rounded up to a multiple
   * of 16.
   */
  memory_mib: { [key in string]: number };
  /** Failures of Hedgerow. */
  errors: Array<ErrorCount>;
  /**
   * Comparison with the shadow bundle that scored the most requests; null if no shadow bundle
   * scored a request.
   */
  shadow: ShadowTraffic | null;
};

/** The response of `GET /_hedgerow/version`. */
export type VersionInfo = {
  /** Version of the Worker. */
  version: string;
  /** Digest of the active bundle; null if the embedded rules do not load. */
  ruleset: string | null;
  /** Serial of the release; null for the embedded rules. */
  release: number | null;
  /**
   * Whether a panic ends only the request that caused it, and not the other requests of the
   * isolate.
   */
  panic_unwind: boolean;
  /** Role of the host that received the request: whether it serves the console and other pages. */
  console_host: ConsoleHost;
};
