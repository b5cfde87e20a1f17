//! The JSON of the admin API. The Worker writes these types, the command line reads them, and the
//! TypeScript types of the console are generated from them.
//!
//! docs/openapi.yaml describes the paths. Times are in seconds since the epoch unless a field says
//! otherwise; digests are SHA-256 in 64 hexadecimal digits. Types with `serde(default)` accept
//! missing members, so that a newer command line reads an older deployment.

mod audit;
mod bundles;
mod clusters;
mod decisions;
mod error;
mod health;
mod indicators;
mod live;
mod principals;
mod releases;
mod series;
mod status;
mod stop;
mod traffic;

pub use audit::{AuditEntry, AuditLog};
pub use bundles::{BundleInfo, BundleList, BundleUpload, SignedBundle};
pub use clusters::{
    ClusterBridge, ClusterDetails, ClusterInfo, ClusterLink, ClusterList, ClusterSummary,
    ClusterTraffic, SplitRequest, SplitResult,
};
pub use decisions::{DecisionList, DecisionRecord};
pub use error::{ErrorBody, ErrorDetails};
pub use health::{
    ConfigProblem, ConsoleHost, HealthDetails, HealthReport, HealthStatus, VersionInfo,
};
pub use indicators::{
    IndicatorDetails, IndicatorInfo, IndicatorList, RevokeFilter, RevokeMatchingRequest,
    RevokeMatchingResult, RevokeRequest, RevokeResult,
};
pub use live::LiveTicket;
pub use principals::{
    LabelQuery, Labels, PrincipalEntry, PrincipalOutcome, PrincipalStatus, PrincipalsResult,
    PrincipalsUpload,
};
pub use releases::{PublishResult, ReleaseInfo, ReleaseList, ReleaseUpload};
pub use series::{ActionSeries, BandSeries, ErrorSeries, RulesetTraffic, Series, SignatureSeries};
pub use status::{
    DeploymentStatus, ExemptionInfo, IndicatorCause, IndicatorStatus, LedgerStatus,
    PrincipalsStatus, PublicationStatus, PullStatus,
};
pub use stop::{StopRequest, StopStatus};
pub use traffic::{
    BandChange, Counts, ErrorCount, PathCount, ShadowTraffic, SignatureDifference, SignatureHits,
    TrafficSummary,
};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod typescript;
