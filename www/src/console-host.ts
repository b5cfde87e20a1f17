// Finds out whether the console is the only site on its host. Other pages on the same host share
// the web origin, so their scripts could read tokens and keys that a user enters here.
import { ApiError, type ConsoleHost, type VersionInfo } from './api.ts';

/** Asks the Worker which role the host of the page has for the console. Throws `ApiError`. */
export async function consoleHost(): Promise<ConsoleHost> {
  const response = await fetch('/_hedgerow/version').catch(() => null);
  const version = (await response?.json().catch(() => null)) as Partial<VersionInfo> | null;
  if (response?.ok && version?.console_host) return version.console_host;
  throw new ApiError(
    0,
    'version',
    'the Worker does not say whether the console has a host of its own',
    'reload the page',
  );
}

/** Returns whether the page may accept a secret key on a host with this role. */
export const mayAcceptKeys = (host: ConsoleHost) => host === 'own' || host === 'local';

/**
 * Rejects if a service worker of the host intercepts the requests of the page, because it could
 * read the token that a user enters. A hostile service worker could also replace this check. The
 * check detects honest service workers of the origin's application.
 */
export async function rejectServiceWorkers() {
  const container = navigator.serviceWorker as ServiceWorkerContainer | undefined;
  const registration = container && (await container.getRegistration('/_hedgerow/'));
  if (!container?.controller && !registration) return;
  const scope = registration?.scope ?? 'its scope is unknown';
  throw new ApiError(
    0,
    'service_worker',
    `a service worker of this host controls the console: ${scope}`,
    'set CONSOLE_HOST, so that the console has a host of its own; or use `hedgerow status`',
  );
}
