import { HUB_VARIABLES } from '@lorasmith/hub';
import { mapSetting, setting } from '@lorasmith/service-kit';
import { Type } from 'typebox';

/** The address of the hub, for the puller and for deliveries. */
export const hubEndpoint = mapSetting(
  setting({
    ...HUB_VARIABLES.endpoint,
    schema: Type.String({ pattern: HUB_VARIABLES.endpoint.pattern }),
    example: 'https://hub.example',
    description:
      'The hub from which base models are pulled and to which adapters are delivered, or a mirror of it. It receives `HF_TOKEN` of the ' +
      'puller, and the tokens of keys that deliver.',
  }),
  HUB_VARIABLES.endpoint.read,
);

/** True if nothing is exchanged with the hub. */
export const hubOffline = mapSetting(
  setting({
    ...HUB_VARIABLES.offline,
    schema: Type.String({ pattern: HUB_VARIABLES.offline.pattern }),
    example: '1',
    description: '`1`: nothing is fetched from the hub or delivered to it, and a pull fails at once.',
  }),
  HUB_VARIABLES.offline.read,
);
