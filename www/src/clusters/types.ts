// Types of the admin API for clusters and indicators. Times are in seconds since the epoch.
import type { Band } from '../api.ts';

export interface Cluster {
  id: string;
  accounts: number;
  keys: number;
  correlations: string[];
  first: number;
  last: number;
  /** Null if the ledger does not answer. */
  traffic: {
    minutes: number;
    requests: number;
    by_band: Partial<Record<Band, number>>;
    by_model: Record<string, number>;
  } | null;
}

export interface ClusterDetails extends Cluster {
  links: { key: string; correlation: string }[];
}

export interface Indicator {
  id: number;
  correlation: string;
  key: string;
  /** Time of the first firing. */
  first: number;
  /** Time of the last firing. */
  last: number;
  expires: number;
  /** Number of firings. */
  times: number;
  /** Measured value at the last firing. */
  measured: number;
  /** Condition of the correlation, in words. */
  threshold: string;
  accounts: number;
  cluster: string | null;
  revoked: number | null;
  /** Reason for the revocation. */
  reason: string | null;
}

export interface AuditEntry {
  id: number;
  at: number;
  /** Scope of the token. */
  who: string;
  what: string;
  subject: string | null;
  author: string | null;
  from: string | null;
  result: string;
}
