import type { Role } from '@lorasmith/contracts';
import { type ComponentChildren, createContext } from 'preact';
import { useContext } from 'preact/hooks';
import { useClient } from './service.js';
import { usePolled } from './use-polled.js';

/** Rights that some keys lack: to change things, and to pull base models, which all keys share. */
export type Right = 'change' | 'pull';

const RoleContext = createContext<Role | undefined>(undefined);

/** Reads the role of the key. Until it is known, nothing that needs it is offered. */
export function RoleProvider({ children }: { children: ComponentChildren }) {
  const client = useClient();
  const { value, error } = usePolled((signal) => client.key({ signal }), [client], { everyMs: null });
  // The service refuses what is not allowed, so in doubt everything is offered.
  const role = value?.role ?? (error === undefined ? undefined : 'admin');
  return <RoleContext.Provider value={role}>{children}</RoleContext.Provider>;
}

/** True if the key has a right. */
export function useMay(right: Right): boolean {
  const role = useContext(RoleContext);
  return role === 'admin' || (role === 'train' && right === 'change');
}

/** Content for keys with a right alone. */
export function Allowed({ to, children }: { to: Right; children: ComponentChildren }) {
  return useMay(to) ? children : null;
}
