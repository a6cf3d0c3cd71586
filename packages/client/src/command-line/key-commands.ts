import { type Command, print } from './command.js';

export const KEY_COMMANDS: Command[] = [
  {
    name: 'key',
    positionals: [],
    summary: 'The API key of this command, and its role',
    async run(context) {
      const key = await context.client.key(context);
      const text =
        key.id === null ? 'The service has no keys: everything is allowed.' : `${key.id}  ${key.name}, ${key.role}`;
      return print(context, key, text);
    },
  },
];
