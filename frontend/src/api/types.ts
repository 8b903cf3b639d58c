// What /api/v1 answers (console/api/serializers.py).

export type Role = "viewer" | "operator" | "admin";

export interface Me {
  username: string;
  /** Null: no role across the fleet; a tenant's owner has its tenants. */
  role: Role | "tenant_owner" | null;
  tenants: string[];
  may_act: boolean;
  may_administer: boolean;
}

export interface InstanceRow {
  instance_id: string;
  pool: string;
  state: string;
  accepting: boolean;
  cause: string;
  changed_at: string;
}

export interface LiveRequest {
  request_id: string;
  engine_id: string;
  tenant: string;
  slo_class: string;
  state: string;
  prompt_tokens: number;
  output_tokens: number;
  blocks: number;
  arrived_at: string;
  migration_id: string;
}

export interface Tenant {
  slug: string;
  name: string;
  slo_class: string;
  allowed_classes: string[];
  active: boolean;
  keys: number;
  created_at: string;
  recent: {
    requests: number;
    prompt_tokens: number;
    output_tokens: number;
    ttft_mean_ms: number | null;
  };
}

export interface AuditEntry {
  id: number;
  at: string;
  actor: string;
  action: string;
  object_type: string;
  object_id: string;
  before: Record<string, unknown>;
  after: Record<string, unknown>;
  reason: string;
  request_id: string;
  address: string | null;
}
