import { readFolderToken } from '@lorasmith/storage';

/** The registry, and how it knows the api. */
export interface RegistryAddress {
  url: string;
  /** The secret of api and registry; null: the registry asks for none. Read for each call: a registry that restarts writes a new one. */
  secret(): Promise<string | null>;
}

/**
 * @param serviceSecret - SERVICE_SECRET; null: the registry writes one into the data folder
 * @param dataDir - the data folder that both share
 */
export function registryAt(url: string, serviceSecret: string | null, dataDir: string): RegistryAddress {
  return { url, secret: async () => serviceSecret ?? (await readFolderToken(dataDir)) };
}
