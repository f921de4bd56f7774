# shellcheck shell=bash source-path=SCRIPTDIR
# All parts of ./dev; each depends only on those before it.

source "${BASH_SOURCE[0]%/*}/settings.sh"
source "${BASH_SOURCE[0]%/*}/console.sh"
source "${BASH_SOURCE[0]%/*}/process.sh"
source "${BASH_SOURCE[0]%/*}/ports.sh"
source "${BASH_SOURCE[0]%/*}/java.sh"
source "${BASH_SOURCE[0]%/*}/servers.sh"
source "${BASH_SOURCE[0]%/*}/kafka/native.sh"
source "${BASH_SOURCE[0]%/*}/registry/native.sh"
source "${BASH_SOURCE[0]%/*}/postgres/native.sh"
source "${BASH_SOURCE[0]%/*}/cassandra/native.sh"
source "${BASH_SOURCE[0]%/*}/install.sh"
source "${BASH_SOURCE[0]%/*}/up.sh"
source "${BASH_SOURCE[0]%/*}/test.sh"
source "${BASH_SOURCE[0]%/*}/chaos.sh"
source "${BASH_SOURCE[0]%/*}/soak.sh"
source "${BASH_SOURCE[0]%/*}/doctor.sh"
