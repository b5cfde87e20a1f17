//! Verifies uploaded bundles and releases, and stores them.
//!
//! A publisher first uploads bundles, and then a release that contains their digests. A release is
//! published as soon as it is stored.

use hedgerow_core::api::{BundleInfo, PublishResult};
use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_core::ruleset::{
    Bundle, MAX_BUNDLE_BYTES, Release, Ruleset, digest, is_digest, short_digest,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use worker::Request;

use super::error::{internal_error, rejected};
use super::signed::{ReleaseKind, SignedText, VerifiedRelease};
use super::tables::StoredRelease;
use super::{Caller, HandlerResult, Registry};
use crate::admin_api::error::ApiError;
use crate::platform::clock::now_seconds;
use crate::platform::panic::catch_panic;

impl Registry {
    /// Reads the bundle or release in the body of a request. If the body is malformed, adds an
    /// entry with `action` to the audit log, because the sender has a token.
    pub(super) async fn read_upload<T: DeserializeOwned>(
        &self,
        request: &mut Request,
        action: &str,
        caller: &Caller,
    ) -> Result<T, ApiError> {
        let upload = parse_upload(request).await;
        if let Err(error) = &upload {
            self.tables()?.audit(caller.for_audit(), action, "", "", error.code);
        }
        upload
    }

    /// Returns the keys of PUBLIC_KEYS.
    ///
    /// # Errors
    /// `unavailable`, if PUBLIC_KEYS is missing or malformed.
    fn trusted_keys(&self) -> Result<TrustedKeys, ApiError> {
        let keys = self.settings.trusted_keys();
        let unavailable = |message, remedy| ApiError::new(503, "unavailable", message, remedy);
        let keys = keys.map_err(|problem| unavailable(problem.message, problem.remedy))?;
        if keys.is_empty() {
            let remedy =
                "set it in wrangler.toml to what `hedgerow keygen` printed, and deploy again";
            let message = "PUBLIC_KEYS is missing: no release can be verified";
            return Err(unavailable(message.to_owned(), remedy.to_owned()));
        }
        Ok(keys)
    }

    /// Handles `PUT /bundles/<digest>`.
    pub(super) fn upload_bundle(
        &self,
        digest: &str,
        signed: SignedText,
        caller: &Caller,
    ) -> HandlerResult {
        let stored = self.verify_and_store(digest, &signed);
        let result = stored.as_ref().err().map_or("ok", |error| error.code);
        self.tables()?.audit(caller.for_audit(), "bundle.upload", short_digest(digest), "", result);
        let (status, stored) = stored?;
        Ok((status, json!(stored)))
    }

    /// Verifies a bundle and stores it. Returns status 201 with its description, or 200 if it is
    /// already stored.
    ///
    /// # Errors
    /// `digest`, if `expected_digest` is not the digest of the bundle; `signature`, if no trusted
    /// key verifies the signature; `bundle`, if the bundle is invalid or a regex does not compile;
    /// `unavailable`, if PUBLIC_KEYS or the tables cannot be read.
    pub(super) fn verify_and_store(
        &self,
        expected_digest: &str,
        signed: &SignedText,
    ) -> Result<(u16, BundleInfo), ApiError> {
        let bytes = signed.text.as_bytes();
        if !is_digest(expected_digest) || digest(bytes) != expected_digest {
            let message = "the digest in the path is not that of the bundle";
            let remedy = "send the bundle to /bundles/{SHA-256 of its bytes, 64 hex digits}";
            return Err(ApiError::new(422, "digest", message, remedy));
        }
        self.trusted_keys()?.verify(bytes, &signed.signature).map_err(rejected("signature"))?;
        if let Some(stored) = self.tables()?.bundle(expected_digest)? {
            return Ok((200, stored));
        }
        let compiled = catch_panic(|| {
            let bundle = Bundle::parse(bytes)?;
            let digest = expected_digest.to_owned();
            let stored = BundleInfo::new(digest, bytes, &bundle, now_seconds());
            Ruleset::new(bundle, expected_digest.to_owned())?.compile_regexes()?;
            Ok(stored)
        });
        let panicked = || {
            Err(hedgerow_core::Error::new("compiling the bundle panicked", "report this bundle"))
        };
        let stored = compiled.unwrap_or_else(panicked).map_err(rejected("bundle"))?;
        self.tables()?.insert_bundle(&stored, &signed.text, &signed.signature)?;
        Ok((201, stored))
    }

    /// Verifies, stores and publishes a release. Returns status 201, or 202 if it is stored but
    /// could not be published yet.
    pub(super) async fn accept_release(
        &self,
        kind: ReleaseKind,
        signed: SignedText,
        caller: &Caller,
    ) -> HandlerResult {
        // Nothing is awaited until the release is stored. So of two publishers with the same
        // serial, the second is rejected.
        let verified = self.verify_release(signed);
        let author =
            verified.as_ref().map_or("", |verified| verified.release.author.as_str()).to_owned();
        let serial = verified.as_ref().map_or(0, |verified| verified.release.serial);
        let stored = verified.and_then(|verified| self.store_release(kind, verified));
        let result = stored.as_ref().err().map_or("ok", |error| error.code);
        self.tables()?.audit(caller.for_audit(), kind.name(), &serial.to_string(), &author, result);
        stored?;
        let problem = self.publish_release().await.err();
        let is_published = self.tables()?.is_published(serial)?;
        let problem = match (is_published, problem) {
            (true, _) => None,
            (false, Some(problem)) => Some(problem),
            (false, None) => {
                Some("a later release was stored before this one was published".to_owned())
            }
        };
        let status = if is_published { 201 } else { 202 };
        let stopped = self.stop_in_force()?.is_some();
        Ok((status, json!(PublishResult { serial, published: is_published, problem, stopped })))
    }

    /// Verifies the signature, format and expiry of a release.
    ///
    /// # Errors
    /// `signature`, if no trusted key verifies the signature; `release`, if the release is
    /// malformed or has expired; `unavailable`, if PUBLIC_KEYS is missing or malformed.
    pub(super) fn verify_release(&self, signed: SignedText) -> Result<VerifiedRelease, ApiError> {
        let SignedText { text, signature } = signed;
        let keys = self.trusted_keys()?;
        let key =
            keys.verify(text.as_bytes(), &signature).map_err(rejected("signature"))?.to_owned();
        let release = Release::parse(text.as_bytes()).map_err(rejected("release"))?;
        if release.is_expired(now_seconds()) {
            let remedy = "give a later expiry";
            return Err(ApiError::new(422, "release", "the release has expired", remedy));
        }
        Ok(VerifiedRelease { release, text, signature, key })
    }

    /// Stores a release if its serial is above all others, its bundles are stored, and `kind`
    /// allows the change.
    ///
    /// # Errors
    /// `serial`, if the serial is not above all others; `unknown_bundle`, if a bundle is not
    /// stored; `signature`, if no trusted key signed a bundle; `release`, if the bundles are too
    /// large; `precondition`, if `kind` does not allow the change, or if the stop that the release
    /// ends is not in force; `unavailable`, if the tables cannot be read or written.
    pub(super) fn store_release(
        &self,
        kind: ReleaseKind,
        verified: VerifiedRelease,
    ) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let current = tables.newest_release()?;
        let serial = current.as_ref().map_or(0, |current| current.serial);
        let VerifiedRelease { release, text, signature, key } = verified;
        if release.serial <= serial {
            let message = format!("serial {} is not higher than {serial}", release.serial);
            let remedy = "somebody else released: see `hedgerow status`, and release again";
            let error = ApiError::new(409, "serial", message, remedy);
            return Err(ApiError { serial: Some(serial), ..error });
        }
        self.verify_bundles(&release)?;
        self.check_resumption(kind, &release)?;
        let before = current.as_ref().and_then(StoredRelease::manifest);
        let transition = match kind {
            ReleaseKind::Release | ReleaseKind::Pull => Ok(()),
            ReleaseKind::Promote => check_promotion(before.as_ref(), &release),
            ReleaseKind::Rollback => self.check_rollback(before.as_ref(), &release),
        };
        transition.map_err(|message| {
            let error = ApiError::new(409, "precondition", message, "see `hedgerow status`");
            ApiError { serial: Some(serial), ..error }
        })?;
        let serial = release.serial;
        tables.insert_release(&StoredRelease::new(serial, kind.name(), text, signature, key))?;
        self.end_stop(&release)
    }

    /// Checks that every bundle of a release is stored and signed with a key that is still trusted,
    /// and that all bundles together have at most 5 MiB.
    fn verify_bundles(&self, release: &Release) -> Result<(), ApiError> {
        let keys = self.trusted_keys()?;
        let mut bytes = 0_usize;
        for digest in release.digests() {
            let Some((text, signature)) = self.tables()?.bundle_text(digest)? else {
                let message = format!("the bundle {} is not stored here", short_digest(digest));
                return Err(ApiError::new(422, "unknown_bundle", message, "upload it first"));
            };
            keys.verify(text.as_bytes(), &signature).map_err(|error| {
                let message = format!("bundle {}: {}", short_digest(digest), error.problem());
                let remedy = "push the rules again, signed with a key that is accepted now";
                ApiError::new(422, "signature", message, remedy)
            })?;
            bytes = bytes.saturating_add(text.len());
        }
        // An isolate has all these bundles in memory. While it loads them, it also has the bundles
        // of the previous release.
        if bytes > MAX_BUNDLE_BYTES {
            let message = "the bundles of this release have more than 5 MiB together";
            let remedy = "release them one after the other, or make them smaller";
            return Err(ApiError::new(422, "release", message, remedy));
        }
        Ok(())
    }

    /// Checks that the rollback `after` has neither canary nor shadow, and that its active bundle
    /// is the embedded one or was active earlier. The rollback must change the active bundle, or
    /// end a canary or shadow of `before`. Returns the problem otherwise.
    fn check_rollback(
        &self,
        before: Option<&Release>,
        after: &Release,
    ) -> Result<(), &'static str> {
        if after.canary.is_some() || after.shadow.is_some() {
            return Err("a rollback has neither canary nor shadow");
        }
        // Ending a canary or a shadow is a rollback, too.
        let is_staged = |before: &Release| before.canary.is_some() || before.shadow.is_some();
        if before.is_some_and(|before| before.active == after.active && !is_staged(before)) {
            return Err("that bundle is in force already, for all accounts");
        }
        let was_active = self.tables().and_then(|tables| tables.was_active(&after.active));
        if after.active == EMBEDDED || was_active.unwrap_or(false) {
            Ok(())
        } else {
            Err("that bundle was never in force")
        }
    }
}

/// Checks that the promotion `after` has neither canary nor shadow, and that it makes the canary of
/// `before` active. If `before` has no canary, its shadow must become active. Returns the problem
/// otherwise.
fn check_promotion(before: Option<&Release>, after: &Release) -> Result<(), &'static str> {
    if after.canary.is_some() || after.shadow.is_some() {
        return Err("a promotion has neither canary nor shadow");
    }
    let canary = before.and_then(|before| before.canary.as_ref()).map(|canary| &canary.digest);
    let shadow = before.and_then(|before| before.shadow.as_ref()).map(|shadow| &shadow.digest);
    match canary.or(shadow) {
        None => Err("the current release has neither canary nor shadow"),
        Some(digest) if *digest == after.active => Ok(()),
        Some(_) => Err("the current release has another canary or shadow"),
    }
}

/// Parses the body of a request.
async fn parse_upload<T: DeserializeOwned>(request: &mut Request) -> Result<T, ApiError> {
    let text = request.text().await.map_err(internal_error)?;
    serde_json::from_str(&text).map_err(|error| {
        // The message of `error` could quote the body.
        let position = format!("line {}, column {}", error.line(), error.column());
        let message = format!(
            "invalid body ({position}): expected a JSON object with `bundle` or `release`, and \
             `signature`"
        );
        ApiError::new(400, "invalid", message, "use `hedgerow push` or `hedgerow release`")
    })
}
