# An image of a node, built on an instance by playbooks/build-ami.yml:
#
#   packer init ansible/packer && packer build -var package=dist/hafleet_0.1.0-1_amd64.deb ansible/packer
packer {
  required_plugins {
    amazon  = { source = "github.com/hashicorp/amazon", version = ">= 1.3" }
    ansible = { source = "github.com/hashicorp/ansible", version = ">= 1.1" }
  }
}

variable "package" {
  type        = string
  description = "What `make deb` built."
}

variable "extra" {
  type        = list(string)
  default     = []
  description = "More arguments of ansible-playbook, such as [\"-e\", \"hafleet_pull=true\"] or [\"-e\", \"@edge.yml\"]."
}

variable "region" {
  type    = string
  default = "eu-west-1"
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

source "amazon-ebs" "node" {
  region        = var.region
  instance_type = var.instance_type
  ssh_username  = "admin"
  ami_name      = "hafleet-${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  imds_support  = "v2.0"

  source_ami_filter {
    owners      = ["136693071363"] # Debian
    most_recent = true
    filters     = { name = "debian-12-amd64-*", virtualization-type = "hvm" }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

build {
  sources = ["source.amazon-ebs.node"]

  provisioner "ansible" {
    playbook_file    = "${path.root}/../playbooks/build-ami.yml"
    ansible_env_vars = ["ANSIBLE_CONFIG=${path.root}/../ansible.cfg"]
    extra_arguments  = concat(["-e", "hafleet_package=${abspath(var.package)}"], var.extra)
    use_proxy        = false
  }
}
