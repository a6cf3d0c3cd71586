import type { HubTokens } from '../access/hub-tokens.js';
import type { AdapterSource } from './adapter-source.js';
import { DeliveryFolder } from './delivery-folder.js';
import type { DeliveryConfig, DeliveryKinds } from './delivery-kind.js';
import { bucketKind } from './kinds/bucket.js';
import { folderKind } from './kinds/folder.js';
import { type HubKindOptions, hubKind } from './kinds/hub.js';
import { type NamedAdapters, nameKind } from './kinds/name.js';
import { vllmKind } from './kinds/vllm.js';
import type { VllmTimeouts } from './kinds/vllm-server.js';

export interface DeliveryKindsOptions {
  config: DeliveryConfig;
  source: AdapterSource;
  /** The tokens with which keys deliver to the hub. */
  hubTokens: HubTokens;
  names: NamedAdapters;
  /** @defaultValue as in {@link vllmKind} */
  vllmTimeouts?: VllmTimeouts;
  hubTimeouts?: HubKindOptions['timeouts'];
}

/** The table of all kinds. */
export function deliveryKinds({
  config,
  source,
  hubTokens: tokens,
  names,
  vllmTimeouts,
  hubTimeouts,
}: DeliveryKindsOptions): DeliveryKinds {
  const folder = config.folder === null ? null : new DeliveryFolder(config.folder, source);
  return {
    vllm: vllmKind({ config, folder, timeouts: vllmTimeouts }),
    folder: folderKind(folder),
    hub: hubKind({ hub: config.hub, tokens, source, timeouts: hubTimeouts }),
    s3: bucketKind({ config, source }),
    name: nameKind(names),
  };
}
