import { createHash } from 'node:crypto';

/** A file of a repository. */
export interface HubServerFile {
  bytes: Buffer;
  /** Stored beside git, and sent from the other server. */
  large: boolean;
  /** The digest in the list; that of the bytes unless it is to be wrong. */
  digest: string;
}

/** The state of a branch. */
export interface HubBranch {
  commit: string;
  /** The title of the commit. */
  title: string;
  files: Map<string, HubServerFile>;
}

/** A repository, as it is at its main branch. */
export interface HubServerRepo extends HubBranch {
  /** Other names of the commit. */
  revisions: string[];
  branches: Map<string, HubBranch>;
  /** The token that a reader must send; null: everybody may read it. */
  token: string | null;
  gated: boolean;
  /** True if large files are offered by Xet too. */
  xet: boolean;
}

export function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export function gitSha1Of(bytes: Buffer): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}
