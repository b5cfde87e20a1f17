// Errors of the network and of the API in the words of the console. The texts of the API are for
// programs and for the command line: they name headers and bindings.

/** Names of Hedgerow's parts, as errors of the API contain them, with their purpose. */
const PARTS: Readonly<Record<string, string>> = {
  ledger: 'counts the requests (the ledger)',
  registry: 'stores the releases and clusters (the registry)',
};

/** Returns the message and the remedy for an error. `status` is 0 without an answer. */
export function toPlainError(
  status: number,
  code: string,
  message = '',
  remedy = '',
): [message: string, remedy: string] {
  if (status === 0) {
    return navigator.onLine
      ? ['Hedgerow cannot be reached', 'check the connection, and that the Worker is deployed']
      : ['this device is offline', 'connect to the network'];
  }
  if (code === 'unreadable') {
    return [
      `something other than Hedgerow answered, with status ${status}`,
      'reload the page; then check the proxy or sign-in page in front of the host',
    ];
  }
  if (status === 401) {
    return [
      'this token is not accepted',
      'copy the value of READ_TOKEN or ADMIN_TOKEN again; it may have been replaced',
    ];
  }
  if (status === 403 && code === 'scope') {
    return ['this token does not allow changes', 'use the token that was set as ADMIN_TOKEN'];
  }
  if (status === 429) {
    return ['there were too many attempts with wrong tokens', 'wait a minute, and try again'];
  }
  const part = Object.keys(PARTS).find((name) => message.includes(name));
  // A missing binding or setting has a remedy of its own.
  if (status === 503 && part && !message.includes('missing')) {
    return [
      `the part of Hedgerow that ${PARTS[part]} does not answer`,
      'requests are still decided; if it lasts, check Cloudflare’s status page',
    ];
  }
  if (message) return [message, remedy];
  return ['Hedgerow cannot answer at present', 'look for the error in the Worker’s log'];
}
