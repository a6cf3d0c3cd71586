import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** A proxy between a service and Redis that can be blocked. */
export interface TcpProxy {
  port: number;
  /** Stops all traffic but keeps connections open, as when a cable is pulled. */
  block(): void;
  /** Delivers the delayed data and resumes the traffic. */
  unblock(): void;
  close(): Promise<void>;
}

export async function startTcpProxy(target: { host: string; port: number }): Promise<TcpProxy> {
  const pairs = new Set<[Socket, Socket]>();
  let blocked = false;
  const server = createServer((client) => {
    const upstream = connect(target);
    const pair: [Socket, Socket] = [client, upstream];
    pairs.add(pair);
    for (const [from, to] of [pair, [upstream, client] as const]) {
      from.on('data', (chunk) => to.write(chunk));
      from.on('error', () => to.destroy());
      from.on('close', () => {
        pairs.delete(pair);
        to.destroy();
      });
      if (blocked) from.pause();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    block() {
      blocked = true;
      for (const pair of pairs) for (const socket of pair) socket.pause();
    },
    unblock() {
      blocked = false;
      for (const pair of pairs) for (const socket of pair) socket.resume();
    },
    async close() {
      for (const pair of pairs) for (const socket of pair) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
