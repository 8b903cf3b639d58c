// Short names for the schema's types, as generated from the API's OpenAPI document.

import type { components } from "./schema";

type Schemas = components["schemas"];

export type TenantRow = Schemas["TenantOutput"];
export type ClassRow = Schemas["ClassOutput"];
export type KeyRow = Schemas["KeyOutput"];
export type KeyIssued = Schemas["KeyIssued"];
export type LimitRow = Schemas["LimitOutput"];
export type BoostRow = Schemas["BoostOutput"];
export type MemberRow = Schemas["MemberOutput"];
export type UsageRow = Schemas["UsageRow"];
export type AttainmentRow = Schemas["AttainmentRow"];
export type Person = Schemas["PersonOutput"];
export type PersonCreated = Schemas["PersonCreated"];
export type TotpBegun = Schemas["TotpBegun"];
export type Totp = Schemas["TotpOutput"];
export type RecoveryCodes = Schemas["RecoveryCodes"];
export type Operation = Schemas["OperationOutput"];
export type SignInOptions = Schemas["SignInOptions"];
export type SignedIn = Schemas["SignedIn"];
export type Token = Schemas["TokenOutput"];
export type TokenIssued = Schemas["TokenIssued"];
export type RequestRow = Schemas["RequestOutput"];
export type RequestDetail = Schemas["RequestDetailOutput"];
export type TimelineEvent = Schemas["TimelineEntry"];
export type TimelineSegment = Schemas["Segment"];
export type Pool = Schemas["PoolOutput"];
export type PoolSize = Schemas["PoolSizeOutput"];
export type ScalingDecision = Schemas["ScalingOutput"];
export type PolicyVersion = Schemas["PolicyOutput"];
export type PolicyField = Schemas["FieldOutput"];
export type InstanceDetail = Schemas["InstanceOutput"];
export type Transition = Schemas["TransitionOutput"];
export type Trace = Schemas["TraceOutput"];
export type WhatIf = Schemas["WhatIfDetailOutput"];
export type MigrationSummary = Schemas["MigrationSummaryOutput"];
export type MovePair = Schemas["PairOutput"];
export type WhatIfJob = Schemas["WhatIfOutput"];
export type Alert = Schemas["AlertOutput"];
export type AlertRule = Schemas["RuleOutput"];
export type AlertKind = Schemas["KindOutput"];
export type Webhook = Schemas["WebhookOutput"];
export type WebhookCreated = Schemas["WebhookCreated"];
