import { isIP } from 'node:net';

const LOOPBACK = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|::1|\[::1\])$/;

/** True if only this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

/** True for a loopback name, or a name without a dot as containers use: no other site can have such a name. */
export function isOwnName(name: string): boolean {
  return isLoopback(name) || /^[a-z0-9_-]+$/i.test(name);
}

/** True for an own name or any IP address: the names under which no page of another site can reach a service. */
export function isSafeName(name: string): boolean {
  return isOwnName(name) || isIP(name.replace(/^\[(.*)\]$/, '$1')) !== 0;
}

/** The name in an address, without its port; empty if it is no address. */
export function hostNameOf(address: string): string {
  try {
    return new URL(address).hostname;
  } catch {
    return '';
  }
}
