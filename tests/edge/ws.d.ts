// Types of the part of `ws` that the specs use, because the package contains no types.
declare module 'ws' {
  import type { EventEmitter } from 'node:events';
  import type http from 'node:http';
  import type { Duplex } from 'node:stream';

  export class WebSocket extends EventEmitter {
    static readonly OPEN: 1;
    constructor(url: string | URL, protocols?: string[], options?: object);
    readonly protocol: string;
    readonly readyState: number;
    send(
      data: string | Uint8Array,
      options?: { fin?: boolean; binary?: boolean },
      done?: () => void,
    ): void;
    close(code?: number, reason?: string): void;
    terminate(): void;
  }

  export class WebSocketServer extends EventEmitter {
    constructor(options: object);
    handleUpgrade(
      req: http.IncomingMessage,
      socket: Duplex,
      head: Buffer,
      accept: (socket: WebSocket) => void,
    ): void;
  }
}
