import type { AdapterSource } from './adapter-source.js';
import { DeliveryFolder } from './delivery-folder.js';
import type { DeliveryConfig, DeliveryKinds } from './delivery-kind.js';
import { folderKind } from './kinds/folder.js';
import { vllmKind } from './kinds/vllm.js';
import type { VllmTimeouts } from './kinds/vllm-server.js';

export interface DeliveryKindsOptions {
  config: DeliveryConfig;
  source: AdapterSource;
  /** @defaultValue as in {@link vllmKind} */
  vllmTimeouts?: VllmTimeouts;
}

/** The table of all kinds. */
export function deliveryKinds({ config, source, vllmTimeouts }: DeliveryKindsOptions): DeliveryKinds {
  const folder = config.folder === null ? null : new DeliveryFolder(config.folder, source);
  return { vllm: vllmKind({ config, folder, timeouts: vllmTimeouts }), folder: folderKind(folder) };
}
