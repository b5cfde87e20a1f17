// Whether the page is alone on its host. Other pages of a host share its web origin: their scripts
// could read what somebody enters here.
import { ApiError, type ConsoleHost, type VersionInfo } from './api.ts';

/** Asks the Worker what the host of the page has of the console. Throws `ApiError`. */
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

/** Whether a page on such a host may take a secret key. */
export const mayTakeKeys = (host: ConsoleHost) => host === 'own' || host === 'local';

/**
 * Rejects if a service worker of the host answers the requests of the page. It could read the token
 * that somebody enters. A hostile one would replace this check, too; an honest one of the origin's
 * application does not.
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
