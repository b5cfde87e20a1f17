// What the API tells of clusters and indicators. Times are in seconds since the epoch.
import type { Band } from '../api.ts';

export interface Cluster {
  id: string;
  accounts: number;
  keys: number;
  correlations: string[];
  first: number;
  last: number;
  /** Null where the ledger does not answer. */
  traffic: { minutes: number; requests: number; by_band: Partial<Record<Band, number>>; by_model: Record<string, number> } | null;
}

export interface ClusterDetails extends Cluster {
  links: { key: string; correlation: string }[];
}

export interface Indicator {
  id: number;
  correlation: string;
  key: string;
  first: number;
  last: number;
  expires: number;
  times: number;
  measured: number;
  threshold: string;
  accounts: number;
  cluster: string | null;
  revoked: number | null;
  reason: string | null;
}

export interface AuditEntry {
  id: number;
  at: number;
  who: string;
  what: string;
  subject: string | null;
  author: string | null;
  from: string | null;
  result: string;
}
