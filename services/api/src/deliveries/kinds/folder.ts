import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { AdapterId, type FolderTarget, ProductError } from '@lorasmith/contracts';
import { isAbsent, syncFolder } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import { type DeliveryFolder, folderError } from '../delivery-folder.js';
import type { DeliveryAttempt, DeliveryKind } from '../delivery-kind.js';

/** The folder in which users find the adapters, each under its name. */
const NAMES = 'folders';
/** The folder of their files. */
const FILES = 'folder-files';

/**
 * Delivers into a folder. `folders/NAME` is a link to the files of the adapter, so that one rename replaces all of them together. Those of
 * the adapter before stay until the next delivery, for programs that are reading them.
 * @param folder - null: the operator has set none
 */
export function folderKind(folder: DeliveryFolder | null): DeliveryKind<FolderTarget> {
  const needed = (): DeliveryFolder => {
    if (folder !== null) return folder;
    const message = 'This service delivers into no folder: its operator has to set DELIVERY_FOLDER.';
    throw new ProductError('invalid_delivery', message, { param: 'kind' });
  };
  return {
    placeOf: ({ name }) => `folder ${name}`,
    check: () => void needed(),
    checkAdapter: () => {},
    checkOwner: async () => {},
    async deliver({ name, layout }, { manifest: { id }, signal, report }: DeliveryAttempt) {
      const to = needed();
      const files = path.join(FILES, name);
      const link = path.join(to.path, NAMES, name);
      const before = await linkedAdapter(link);
      report({ replaced: before });
      await to.copy({ id, form: { layout } }, path.join(files, id), signal);
      signal.throwIfAborted();
      await replaceLink(link, path.join('..', files, id)).catch((error: unknown) => {
        throw folderError(error);
      });
      await to.keepOnly(files, before === null ? [id] : [id, before]);
    },
  };
}

/** The adapter that the link names; null without a link. @throws ProductError `invalid_delivery` for what no delivery has made */
async function linkedAdapter(link: string): Promise<AdapterId | null> {
  try {
    const found = await lstat(link);
    const id = found.isSymbolicLink() ? path.basename(await readlink(link)) : '';
    if (Value.Check(AdapterId, id)) return id;
  } catch (error) {
    if (isAbsent(error)) return null;
    throw folderError(error);
  }
  const message = `${NAMES}/${path.basename(link)} in the delivery folder was not made by a delivery. Use another name, or have it removed.`;
  throw new ProductError('invalid_delivery', message, { param: 'name' });
}

async function replaceLink(link: string, target: string): Promise<void> {
  const folder = path.dirname(link);
  await mkdir(folder, { recursive: true });
  const temporary = path.join(folder, `.${randomBytes(6).toString('hex')}`);
  try {
    await symlink(target, temporary);
    await rename(temporary, link);
    await syncFolder(folder);
  } finally {
    await rm(temporary, { force: true }).catch(() => {});
  }
}
